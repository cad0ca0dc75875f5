"""Flickr30K and COCO in Karpathy's splits, in miniature."""

import json

import numpy as np
import pytest

from eval import datasets
from eval.datasets import karpathy
from eval.datasets.base import CaptionedDataset
from eval.metrics.recall import size_bins
from foir import Unavailable, hub
from tests.conftest import scene

SIZE = (60, 40)


ENTITY = """<annotation><filename>{name}.jpg</filename><size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>1</name><name>2</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>"""


@pytest.fixture
def flickr(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    folder = tmp_path / "flickr30k"
    (folder / "flickr30k-images").mkdir(parents=True)
    (folder / "flickr30k_entities" / "Annotations").mkdir(parents=True)
    entries = []
    for number, split in ((11, "test"), (12, "val"), (13, "test"), (14, "train")):
        scene(number, SIZE).save(folder / "flickr30k-images" / f"{number}.jpg")
        (folder / "flickr30k_entities" / "Annotations" / f"{number}.xml").write_text(ENTITY.format(name=number))
        sentences = [{"raw": f" picture {number} said {i}. "} for i in range(6)]
        entries.append({"filename": f"{number}.jpg", "split": split, "sentences": sentences})
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": entries}))
    (folder / "Flickr30K_FG.json").write_text(json.dumps({"11": ["fine 0", "fine 1"], "13": ["fine 2"]}))
    monkeypatch.setitem(karpathy.FINE_IMAGES, "flickr-fg", 2)
    return folder


def test_flickr30k_by_karpathys_split(flickr):
    data = datasets.load("flickr30k", CaptionedDataset)
    assert data.captions[1] == tuple(f"picture 13 said {i}." for i in range(5))
    assert data.boxes == {"annotated": (((0, 0, 29, 19),),) * 2} and data.size_boxes == "annotated"
    assert data.images[0]().size == SIZE
    assert datasets.load("flickr30k-val", CaptionedDataset).captions[0][0] == "picture 12 said 0."
    assert datasets.load("flickr-fg", CaptionedDataset).captions == (("fine 0", "fine 1"), ("fine 2",))
    notes = [
        {"image_id": "13", "bbox": [1, 2, 10, 5], "score": 0.9},
        {"image_id": "13", "bbox": [0, 0, 9, 9], "score": 0.1},
        {"image_id": "99", "bbox": [0, 0, 9, 9], "score": 0.9},
    ]
    (flickr / "detections.json").write_text(json.dumps(notes))
    assert datasets.load("flickr30k", CaptionedDataset).boxes["detected"] == ((), ((1, 2, 11, 7),))


def test_the_papers_number_of_photos_has_finer_captions(flickr, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("FOIR_DATA", str(flickr.parent))
    with pytest.raises(Unavailable, match="Only 2 of the 1000 photos of the paper have finer captions"):
        datasets.load("flickr-fg", CaptionedDataset)
    assert karpathy.FINE_IMAGES == {"flickr-fg": 1000, "coco-fg": 5000}


OBJECT = "<object>{names}<bndbox><xmin>{0}</xmin><ymin>1</ymin><xmax>{1}</xmax><ymax>41</ymax></bndbox></object>"


def test_areas_are_those_of_the_released_code(flickr):
    """(xmax - xmin) * (ymax - ymin) of the file's own numbers: 5 columns are in the first bin, 6 in the second."""
    annotations = flickr / "flickr30k_entities" / "Annotations"
    for name, last in (("11", 6), ("13", 7)):
        annotated = f"<annotation>{OBJECT.format(1, last, names='<name>1</name>')}</annotation>"
        (annotations / f"{name}.xml").write_text(annotated)
    data = datasets.load("flickr30k", CaptionedDataset)
    assert size_bins(data.boxes["annotated"], [SIZE] * 2).tolist() == [0, 1]


def test_boxes_that_no_sentence_mentions_can_be_left_out(flickr):
    entities = flickr / "flickr30k_entities"
    assert "mentioned" not in datasets.load("flickr30k", CaptionedDataset).boxes
    (entities / "Sentences").mkdir()
    things = [(1, 10, (7,)), (11, 20, (8,)), (21, 30, (9, 7)), (31, 40, (77,)), (41, 50, (0,))]
    objects = "".join(
        OBJECT.format(first, last, names="".join(f"<name>{i}</name>" for i in ids)) for first, last, ids in things
    )
    said = "[/EN#7/people A man] and [/EN#0/notvisual each other] .\nOn [/EN#177/scene/other a street] .\n"
    for name in ("11", "13"):
        (entities / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
        (entities / "Sentences" / f"{name}.txt").write_text(said if name == "11" else "Nobody .\n")
    boxes = datasets.load("flickr30k", CaptionedDataset).boxes
    assert [x0 for x0, *_ in boxes["annotated"][0]] == [0, 10, 20, 30, 40]
    assert [[x0 for x0, *_ in one] for one in boxes["mentioned"]] == [[0, 20, 40], []]
    (entities / "Sentences" / "13.txt").unlink()
    with pytest.raises(Unavailable, match=r"sentences of Flickr30K Entities.*13\.txt"):
        datasets.load("flickr30k", CaptionedDataset)


@pytest.mark.parametrize("kind", ["annotated", "mentioned"])
def test_the_papers_smallest_bin_holds_75_texts(kind):
    """Its values are multiples of 1/75: fifteen photos, five texts each. Needs the official files."""
    folder = hub.data_folder() / "flickr30k"
    needed = ["dataset_flickr30k.json", "flickr30k-images", "flickr30k_entities/Annotations"]
    needed += ["flickr30k_entities/Sentences"] if kind == "mentioned" else []
    if missing := [name for name in needed if not (folder / name).exists()]:
        pytest.skip(f"Flickr30K's {', '.join(missing)} are not in {folder}")
    data = datasets.load("flickr30k", CaptionedDataset)
    assert (len(data.images), len(data.texts)) == (1000, 5000)
    bins = size_bins(data.boxes[kind], [load().size for load in data.images])
    assert int((bins[data.text_images] == 0).sum()) == 75
    assert len(np.unique(bins)) == 10


def test_a_damaged_annotation_is_named(flickr):
    path = flickr / "flickr30k_entities" / "Annotations" / "13.xml"
    path.write_text(ENTITY.replace("<xmin>1</xmin>", ""))
    with pytest.raises(Unavailable, match=r"13\.xml is damaged"):
        datasets.load("flickr30k", CaptionedDataset)
    path.unlink()
    with pytest.raises(Unavailable, match="FOIR_DATA"):
        datasets.load("flickr30k", CaptionedDataset)


def write_coco(root):
    folder = root / "coco"
    (folder / "val2014").mkdir(parents=True)
    names = ["COCO_val2014_000000000007", "COCO_val2014_000000000008"]
    entries = []
    for number, name in enumerate(names):
        scene(number, SIZE).save(folder / "val2014" / f"{name}.jpg")
        said = [{"raw": f"{number} {i}"} for i in range(5)]
        entries.append({"filename": f"{name}.jpg", "filepath": "val2014", "split": "test", "sentences": said})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    boxes = {"cat": [[0.9, [1.0, 2.0, 11.0, 12.0]]], "mat": [[0.5, [0.0, 0.0, 60.0, 40.0]]]}
    notes = {"7": {"a [cat] on a mat": {"detections": boxes}, "a cat": {"detections": {"cat": boxes["cat"]}}}}
    (folder / "coco_entities_release.json").write_text(json.dumps(notes))
    return folder, names


def test_coco_by_karpathys_split(root, monkeypatch):
    folder, names = write_coco(root)
    data = datasets.load("coco-5k", CaptionedDataset)
    assert data.boxes["annotated"] == (((1, 2, 11, 12), (0, 0, 60, 40)), ())
    assert data.size_boxes == "detected" and "detected" not in data.boxes
    (folder / "detections_val2014.json").write_text(json.dumps([{"image_id": 8, "bbox": [1, 1, 2, 2], "score": 0.5}]))
    assert datasets.load("coco-5k", CaptionedDataset).boxes["detected"] == ((), ((1, 1, 3, 3),))
    (folder / "detections_val2014.json").write_text(json.dumps([{"image_id": 9, "bbox": [1, 1, 2, 2], "score": 0.5}]))
    with pytest.raises(Unavailable, match="None of the boxes"):
        datasets.load("coco-5k", CaptionedDataset)
    (folder / "detections_val2014.json").write_text('[{"image')
    with pytest.raises(Unavailable, match="is damaged"):
        datasets.load("coco-5k", CaptionedDataset)
    (folder / "detections_val2014.json").unlink()
    (folder / "MSCOCO_FG_ann.json").write_text(json.dumps({f"{names[1]}.jpg": ["fine"]}))
    monkeypatch.setitem(karpathy.FINE_IMAGES, "coco-fg", 1)
    assert datasets.load("coco-fg", CaptionedDataset).captions == (("fine",),)


@pytest.mark.parametrize("content", ["{", "[]", '{"images": [{}]}'])
def test_damaged_splits_are_one_sentence(flickr, content):
    (flickr / "dataset_flickr30k.json").write_text(content)
    with pytest.raises(Unavailable, match="damaged"):
        datasets.load("flickr30k", CaptionedDataset)
