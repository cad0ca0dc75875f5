"""The official layout of COCO in miniature: boxes, labels, and masks in three encodings."""

import json
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as packed

from eval import datasets
from eval.cli import main
from eval.datasets.base import Dataset
from eval.datasets.coco import decode_mask
from eval.experiments import gallery
from eval.report.report import report
from eval.report.results import read
from foir import BadPrompt, Unavailable
from tests.conftest import scene


def pictures(folder, names, size=(60, 40)):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        scene(i, size).save(folder / name)


def rectangle(x0, y0, x1, y1, size=(60, 40)):
    area = np.zeros((size[1], size[0]), bool)
    area[y0:y1, x0:x1] = True
    return area


def box_of(query):
    return query.prompt.boxes[0]


@pytest.fixture
def coco(root):
    folder = root / "coco"
    polygon = [[5, 5, 25, 5, 25, 15, 5, 15], [40, 30, 50, 30, 50, 38, 40, 38]]
    runs = packed.encode(np.asfortranarray(rectangle(10, 20, 30, 35).astype(np.uint8)))
    loose = {"size": [40, 60], "counts": [0, 40, 2360]}  # the first column
    kinds = [{"id": 3, "name": "cat"}, {"id": 7, "name": "cup"}]

    def note(id, image, kind, bbox, segmentation, crowd=0):
        return {
            "id": id, "image_id": image, "category_id": kind, "bbox": bbox, "segmentation": segmentation,
            "iscrowd": crowd, "area": bbox[2] * bbox[3],
        }  # fmt: skip

    asked = [
        note(1, 12, 7, [5.0, 5.0, 45.0, 33.0], polygon),
        note(2, 12, 3, [10.0, 20.0, 20.0, 15.0], {"size": [40, 60], "counts": runs["counts"].decode()}),
        note(3, 11, 3, [0.0, 0.0, 1.0, 40.0], loose),
        note(4, 11, 7, [0.0, 0.0, 60.0, 40.0], loose, crowd=1),
    ]
    kept = [note(5, 21, 3, [1, 1, 5, 5], polygon), note(6, 22, 7, [1, 1, 5, 5], polygon, crowd=1)]
    (folder / "annotations").mkdir(parents=True)
    for split, entries, notes in (("val", (11, 12), asked), ("train", (21, 22, 23), kept)):
        names = [f"{number:012}.jpg" for number in entries]
        pictures(folder / f"{split}2017", names)
        images = [
            {"id": number, "file_name": name, "width": 60, "height": 40}
            for number, name in zip(entries, names, strict=True)
        ]
        data = {"images": images, "annotations": notes, "categories": kinds}
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(data))
    return folder


def test_coco_asks_for_every_box_and_drops_crowds(coco):
    data = datasets.load("coco", Dataset)
    assert [(q.image, box_of(q), data.categories[q.category]) for q in data.queries] == [
        (1, (5, 5, 50, 38), "cup"),
        (1, (10, 20, 30, 35), "cat"),
        (0, (0, 0, 1, 40), "cat"),
    ]
    assert data.labels.tolist() == [[True, False], [False, False], [False, False]]
    assert len(data.gallery) == 3 and data.gallery[0]().size == (60, 40)
    assert not data.leave_one_out


def test_coco_masks_in_all_three_ways(coco):
    polygon, runs, loose = (query.mask() for query in datasets.load("coco", Dataset).queries if query.mask)
    wanted = rectangle(5, 5, 25, 15) | rectangle(40, 30, 50, 38)
    assert (polygon != wanted).sum() <= 4  # COCO's own rasterising of corners
    np.testing.assert_array_equal(runs, rectangle(10, 20, 30, 35))
    np.testing.assert_array_equal(loose, rectangle(0, 0, 1, 40))


def rewrite(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def turned(folder, number, orientation):
    """Store a picture again with the EXIF orientation that viewers turn it by."""
    path = folder / "val2017" / f"{number:012}.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_picture_that_exif_turns_is_read_as_it_was_annotated(coco, orientation):
    stored = turned(coco, 12, orientation)
    data = datasets.load("coco", Dataset)
    query = data.queries[0]
    image = data.query_images[query.image]()
    np.testing.assert_array_equal(np.asarray(image), stored)
    assert query.mask is not None and query.mask().shape == stored.shape[:2]


def test_a_picture_that_was_annotated_upright_is_turned(coco):
    turned(coco, 12, 6)
    path = coco / "annotations" / "instances_val2017.json"
    rewrite(path, lambda data: [entry.update(width=40, height=60) for entry in data["images"]])
    assert datasets.load("coco", Dataset).query_images[1]().size == (40, 60)
    assert datasets.load("coco", Dataset).query_images[0]().size == (60, 40)  # nothing turns it


ODD_OUTLINES: tuple[Any, ...] = (
    [[]],
    [[1, 2, 3, 4]],  # pycocotools would read a box
    [[5, 5, 5, 5, 5, 5]],
    [[float("nan")] * 6],
    [[1e9, 0, 0, 0, 0, 1e9]],
    {"size": [40, 60], "counts": [2400]},
    {"size": [40, 60], "counts": [5]},  # pycocotools would fill the rest with what is in memory
    {"size": [40, 60], "counts": [0, 99999]},
    {"size": [10**6, 10**6], "counts": [5]},  # and write beyond its memory
    {"size": [40, 60], "counts": "no runs!"},
    {"size": [40, 60]},
    ["no polygon"],
    7,
)


@pytest.mark.parametrize("segmentation", ODD_OUTLINES)
def test_an_odd_outline_has_no_pixel_or_is_damaged(segmentation):
    try:
        assert not decode_mask(segmentation, (60, 40)).any()
    except BadPrompt as error:
        assert str(error) == "The outline of an object is damaged."


def test_odd_annotations_run_through_to_the_table(coco, tmp_path, capsys):
    turned(coco, 12, 6)

    def change(data):
        note = data["annotations"][0]
        odd: list[dict[str, Any]] = [{"segmentation": outline} for outline in (*ODD_OUTLINES, [], None)]
        odd += [{"bbox": box} for box in ([900, 0, 5, 5], [float("nan"), 0, 5, 5], [20, 20, -9, -9], [3, 3, 0, 0])]
        data["annotations"] += [{**note, "id": 100 + i, **facts} for i, facts in enumerate(odd)]

    rewrite(coco / "annotations" / "instances_val2017.json", change)
    out = tmp_path / "cells.json"
    words = ["run", "phs-table3", "--encoder", "toy", "--device", "cpu", "--results", str(tmp_path / "results")]
    assert main([*words, "--json", str(out)]) == 0
    lines = capsys.readouterr().out
    assert (
        "coco: query images 2 (published: 5000), gallery images 3 (published: 118287), categories 2 (published: 80)."
        in lines
    )
    assert f"coco: queries without a usable outline, for which the box stands in: {len(ODD_OUTLINES) + 2}." in lines
    assert "coco: queries left out because their box has no part on the image: 2." in lines
    cells = read(out)
    assert {cell.status for cell in cells} == {"ok"} and {cell.n for cell in cells} == {3 + len(ODD_OUTLINES) + 2 + 2}
    text = report(tmp_path / "results").read_text()
    assert "coco, toy: queries left out because their box has no part on the image: 2.\n" in text


def test_a_missing_picture_is_named_before_anything_is_measured(coco):
    (coco / "train2017" / f"{22:012}.jpg").unlink()
    with pytest.raises(
        Unavailable, match=r"1 of 3 images are missing, the first is .*000000000022\.jpg: put them there"
    ):
        datasets.load("coco", Dataset)


def test_a_damaged_picture_is_named_and_the_run_goes_on_when_it_is_back(coco, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gallery, "SHARD", 1)
    path = coco / "train2017" / f"{23:012}.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    words = ["run", "phs-table3", "--encoder", "toy", "--device", "cpu", "--results", str(tmp_path / "results")]
    assert main(words) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("eval: ")]
    assert str(path) in line and "finished parts are kept" in line
    path.write_bytes(whole)
    encode = Mock(wraps=gallery._encode)
    monkeypatch.setattr(gallery, "_encode", encode)
    assert main(words) == 0 and encode.call_count == 1  # of three shards


@pytest.mark.parametrize("text", ["", "[]", '{"images": [], "categories": []}'])
def test_a_damaged_annotation_file_is_one_sentence(coco, text):
    (coco / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(Unavailable, match=r"annotations .*instances_val2017\.json are damaged"):
        datasets.load("coco", Dataset)


def test_an_annotation_of_an_unknown_image_is_one_sentence(coco):
    rewrite(coco / "annotations" / "instances_val2017.json", lambda data: data["annotations"][0].update(image_id=99))
    with pytest.raises(Unavailable, match=r"annotations .* are damaged: restore them \(KeyError\(99\)\)"):
        datasets.load("coco", Dataset)
