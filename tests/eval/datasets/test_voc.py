"""The VOCdevkit layout in miniature."""

import numpy as np
import pytest

from eval import datasets
from eval.datasets.base import Dataset
from foir import Unavailable
from tests.eval.datasets.test_coco import box_of, pictures


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


def test_a_missing_picture_of_voc_is_named(voc):
    (voc / "VOC2012" / "JPEGImages" / "2008_000003.jpg").unlink()
    with pytest.raises(Unavailable, match=r"1 of 2 images are missing, the first is .*2008_000003\.jpg"):
        datasets.load("voc", Dataset)
