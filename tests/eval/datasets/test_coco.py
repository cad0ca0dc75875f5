"""The official layout of COCO in miniature: boxes, labels, and masks in three encodings."""

import json

import numpy as np
import pytest
from pycocotools import mask as packed

from eval import datasets
from eval.datasets.base import Dataset
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
