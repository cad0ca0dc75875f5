"""Flickr30K and COCO in Karpathy's splits, in miniature."""

import json

import pytest

from eval import datasets
from eval.datasets.base import CaptionedDataset
from foir import Unavailable
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
    return folder


def test_flickr30k_by_karpathys_split(flickr):
    data = datasets.load("flickr30k", CaptionedDataset)
    assert data.captions[1] == tuple(f"picture 13 said {i}." for i in range(5))
    assert data.boxes == {"annotated": (((0, 0, 30, 20),),) * 2} and data.size_boxes == "annotated"
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


def test_a_damaged_annotation_is_named(flickr):
    path = flickr / "flickr30k_entities" / "Annotations" / "13.xml"
    path.write_text(ENTITY.replace("<xmin>1</xmin>", ""))
    with pytest.raises(Unavailable, match=r"13\.xml is damaged"):
        datasets.load("flickr30k", CaptionedDataset)
    path.unlink()
    with pytest.raises(Unavailable, match="FOIR_DATA"):
        datasets.load("flickr30k", CaptionedDataset)


def test_coco_by_karpathys_split(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    folder = tmp_path / "coco"
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
    (folder / "MSCOCO_FG_ann.json").write_text(json.dumps({names[1]: ["fine"]}))
    assert datasets.load("coco-fg", CaptionedDataset).captions == (("fine",),)


@pytest.mark.parametrize("content", ["{", "[]", '{"images": [{}]}'])
def test_damaged_splits_are_one_sentence(flickr, content):
    (flickr / "dataset_flickr30k.json").write_text(content)
    with pytest.raises(Unavailable, match="damaged"):
        datasets.load("flickr30k", CaptionedDataset)
