"""Official layouts in miniature: what is read, what is dropped, and what absent or damaged files say."""

import json
import shutil

import datasets as hf
import numpy as np
import pytest
from pycocotools import mask as packed

from eval import datasets
from foir import Unavailable
from tests.conftest import scene


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    return tmp_path


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


@pytest.fixture
def hub_copy(tmp_path, monkeypatch):
    """Writes a parquet repository of the Hub's schema into a local Hub cache."""
    cache, commit = tmp_path / "hub" / "datasets--detection-datasets--coco", "b8d48b594d744980730f3980efeb278b6e4627db"
    data = cache / "snapshots" / commit / "data"
    data.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "tables"))
    kinds = hf.ClassLabel(names=["cat", "cup"])
    thing = {
        "bbox_id": hf.Value("int64"), "category": kinds, "bbox": hf.List(hf.Value("float64"), length=4),
        "area": hf.Value("float64"),
    }  # fmt: skip
    kind = hf.Features(
        image=hf.Image(), image_id=hf.Value("int64"), width=hf.Value("int64"), height=hf.Value("int64"),
        objects=hf.Sequence(thing),
    )  # fmt: skip

    def write(**splits):
        for split, rows in splits.items():
            made = [
                {"image": scene(i, (60, 40)), "image_id": i, "width": 60, "height": 40, "objects": {
                    "bbox_id": list(range(len(things))), "category": [what for what, _ in things],
                    "bbox": [box for _, box in things], "area": [1.0] * len(things),
                }}
                for i, things in enumerate(rows)
            ]  # fmt: skip
            table = hf.Dataset.from_list(made, features=kind)
            table.to_parquet(data / f"{split}-00000-of-00001-7af5414a3b178949.parquet")
        return data

    return write


@pytest.mark.parametrize("sizes", [False, True])
def test_coco_from_the_hub_knows_corners_from_sizes(hub_copy, sizes):
    corners = [[(1, [5.0, 5, 50, 38]), (0, [10.0, 20, 30, 35])], [(0, [0.0, 0, 1, 40])]]
    asked = [[(k, [x0, y0, x1 - x0, y1 - y0] if sizes else [x0, y0, x1, y1]) for k, (x0, y0, x1, y1) in row]
             for row in corners]  # fmt: skip
    hub_copy(val=asked, train=[[(0, [1.0, 1, 5, 5]), (1, [2.0, 2, 9, 9])], [(1, [2.0, 2, 9, 9])]])
    data = datasets.load("coco_hub", Dataset)
    assert [(q.image, box_of(q), data.categories[q.category]) for q in data.queries] == [
        (0, (5, 5, 50, 38), "cup"),
        (0, (10, 20, 30, 35), "cat"),
        (1, (0, 0, 1, 40), "cat"),
    ]
    assert data.labels.tolist() == [[True, True], [False, True]]
    np.testing.assert_array_equal(np.asarray(data.query_images[1]()), np.asarray(scene(1, (60, 40))))


def test_coco_from_the_hub_says_what_is_wrong(hub_copy, tmp_path):
    folder = hub_copy(val=[[(1, [5.0, 5, 50, 38])]])
    with pytest.raises(Unavailable, match=r"train-\*.parquet is missing or damaged"):
        datasets.load("coco_hub", Dataset)
    (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(Unavailable, match="missing or damaged"):
        datasets.load("coco_hub", Dataset)
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(Unavailable, match="detection-datasets/coco cannot be fetched"):
        datasets.load("coco_hub", Dataset)


def xml(folder, year, name, things):
    rows = "".join(
        f"<object><name>{kind}</name><difficult>{hard}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for kind, hard, (x0, y0, x1, y1) in things
    )
    path = folder / year / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><filename>{name}.jpg</filename>{rows}</annotation>")


@pytest.fixture
def voc(root):
    folder = root / "VOCdevkit"
    xml(folder, "VOC2007", "000001", [("dog", 0, (1, 1, 60, 40)), ("person", 1, (11.0, 6, 20, 30))])
    xml(folder, "VOC2007", "000002", [("cat", 0, (3, 3, 9, 9))])
    xml(folder, "VOC2012", "2008_000003", [("dog", 1, (3, 3, 9, 9)), ("sofa", 0, (3, 3, 9, 9))])
    for year, split, names in (
        ("VOC2007", "test", ["000001"]),
        ("VOC2007", "trainval", ["000002"]),
        ("VOC2012", "trainval", ["2008_000003"]),
    ):
        listing = folder / year / "ImageSets" / "Main" / f"{split}.txt"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("\n".join(names) + "\n")
        pictures(folder / year / "JPEGImages", [f"{name}.jpg" for name in names])
    return folder


def test_voc_joins_both_years_and_keeps_difficult_objects(voc):
    data = datasets.load("voc", Dataset)
    assert [(q.image, box_of(q), data.categories[q.category]) for q in data.queries] == [
        (0, (0, 0, 60, 40), "dog"),
        (0, (10, 5, 20, 30), "person"),
    ]
    contents = [{data.categories[k] for k in np.flatnonzero(row)} for row in data.labels]
    assert contents == [{"cat"}, {"dog", "sofa"}]
    assert data.gallery[1]().size == (60, 40) and len(data.categories) == 20


@pytest.mark.parametrize("text", ["", "<annotation><object><name>unicorn</name></object></annotation>", "<a><b></a>"])
def test_a_damaged_voc_annotation_is_one_sentence(voc, text):
    (voc / "VOC2007" / "Annotations" / "000001.xml").write_text(text)
    with pytest.raises(Unavailable, match="000001.xml"):
        datasets.load("voc", Dataset)


@pytest.fixture
def visual_genome(root):
    folder = root / "visual_genome"
    pictures(folder / "VG_100K", ["1.jpg", "2.jpg"])
    pictures(folder / "VG_100K_2", ["3.jpg", "4.jpg"])

    def thing(name, x=1, y=2, w=10, h=5):
        return {"names": [name] if name else [], "x": x, "y": y, "w": w, "h": h, "object_id": 1}

    entries = [
        {"image_id": 1, "objects": [thing("Tree "), thing("trees", 20), thing("", 3), thing("tree", w=0)]},
        {"image_id": 2, "objects": [thing("rare"), thing("man")]},
        {"image_id": 3, "objects": [thing("tree"), thing("man")]},
        {"image_id": 4, "objects": [thing("unlisted")]},
    ]
    (folder / "objects.json").write_text(json.dumps(entries))
    (folder / "object_alias.txt").write_text("tree,trees\nman,guy,person\n")
    (folder / "test_list_500.txt").write_text("1.jpg\n4.jpg\n")
    (folder / "train_list_500.txt").write_text("3.jpg\n2.jpg\n")
    return folder


def test_visual_genome_merges_aliases_and_keeps_the_most_frequent(visual_genome, monkeypatch):
    monkeypatch.setattr("eval.datasets.visual_genome.KEPT", 2)
    data = datasets.load("visual_genome", Dataset)
    assert data.categories == ("tree", "man")
    assert [(q.image, box_of(q), q.category) for q in data.queries] == [(0, (1, 2, 11, 7), 0), (0, (20, 2, 30, 7), 0)]
    assert data.labels.tolist() == [[True, True], [False, True]]
    assert len(data.query_images) == 1  # picture 4 holds nothing that is kept
    assert data.gallery[1]().size == (60, 40)


def test_a_picture_that_visual_genome_lacks_is_named(visual_genome):
    (visual_genome / "VG_100K" / "2.jpg").unlink()
    with pytest.raises(Unavailable, match=r"2\.jpg"):
        datasets.load("visual_genome", Dataset)


@pytest.mark.parametrize("name", ["coco", "coco_small", "voc", "visual_genome"])
def test_absent_data_says_what_to_put_where(root, name):
    with pytest.raises(Unavailable, match="FOIR_DATA"):
        datasets.load(name, Dataset)


def test_flickr8k_keeps_the_test_list_apart(root):
    folder = root / "flickr8k"
    pictures(folder / "images", [f"{i}.jpg" for i in range(5)])
    (folder / "captions.txt").write_text("image,caption\n" + "\n".join(f"{i}.jpg,picture {i}" for i in range(5)))
    for name, rows in (("train", (0, 1)), ("dev", (2,)), ("test", (3,))):
        (folder / f"Flickr_8k.{name}Images.txt").write_text("\n".join(f"{i}.jpg" for i in rows))
    data = datasets.load("flickr8k", CaptionedDataset)
    assert data.captions == (("picture 3",),)
    assert data.training is not None
    files, said = data.training()
    assert len(files) == 4 and ("picture 3",) not in said
    with pytest.raises(Unavailable, match="no data set"):
        datasets.load("coco", CaptionedDataset)
    with pytest.raises(Unavailable, match="no data set"):
        datasets.load("flickr8k", Dataset)


def test_playroom_in_small_knows_the_mask_of_what_it_asks_for(monkeypatch):
    monkeypatch.setattr("eval.datasets.playroom.GALLERY", 3)
    monkeypatch.setattr("eval.datasets.playroom.QUERIES", 2)
    data = datasets.load("playroom", Dataset)
    assert data.queries and len(data.gallery) == 3
    for query in data.queries:
        assert query.mask is not None
        rows, cols = (np.flatnonzero(query.mask().any(axis)) for axis in (1, 0))
        assert box_of(query) == (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)
