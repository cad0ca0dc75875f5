"""Data sets: every official one is named with its page where it is missing, and ready in miniature."""

import re
from pathlib import Path

import pytest

from eval import datasets
from eval.datasets.registry import LAYOUTS
from eval.preflight.data import data_state
from eval.preflight.weights import HubState
from foir import Unavailable

DOCS = Path(__file__).parents[3] / "docs" / "reproduce.md"
COMPOSED = ("playroom", "needles-")  # prefixes of the sets that are made here
LOCAL = {"coco_small", "coco-small-captions", "flickr8k", "folders", "voc12_part", "voc12_part_dev"}
OFFICIAL = sorted(name for name in datasets.layouts() if not name.startswith(COMPOSED) and name not in LOCAL)


def test_all_official_data_sets_are_checked_here():
    assert set(OFFICIAL) >= {
        "coco", "voc", "visual_genome", "coco_hub", "flickr30k", "flickr-fg", "coco-5k", "coco-fg", "voxdet", "permir",
        "instre-xs", "instre-xxs", "cifar10", "cifar100", "stl10", "tiny-imagenet",
    }  # fmt: skip
    assert {name for name in LAYOUTS if not LAYOUTS[name].downloads} == {n for n in LAYOUTS if n.startswith(COMPOSED)}


@pytest.mark.parametrize("name", OFFICIAL)
def test_what_is_missing_is_named_with_what_gets_it(empty_machine, name):
    state = data_state(name, HubState())
    assert str(state) == f"{name}: missing" and len(state.missing) == len(LAYOUTS[name].downloads)
    for need in state.missing:
        assert need.what
        assert re.search(r"https?://\S+\.\S+|hf download \S+/\S+|python -m eval detect", need.source)


@pytest.mark.parametrize("name", sorted(LOCAL & set(LAYOUTS)))
def test_what_is_missing_of_a_local_set_is_named(empty_machine, name):
    assert all("FOIR_DATA" in need.source for need in data_state(name, HubState()).missing)


@pytest.mark.parametrize("name", [name for name in OFFICIAL if not name.endswith("-val")])
def test_a_miniature_copy_is_ready_and_said_to_be_a_part(layouts, name):
    state = data_state(name, HubState())
    assert state.missing == ()
    assert str(state).startswith(f"{name}: ready, ")
    if state.official:
        assert str(state).endswith(": a part, its numbers are not the paper's")


def test_images_are_counted_beside_the_papers(layouts):
    parts = "1 of 4,952 query images, 2 of 16,551 gallery, 2 of 14,976 boxes"
    assert str(data_state("voc", HubState())) == f"voc: ready, {parts}: a part, its numbers are not the paper's"
    assert data_state("coco_hub", HubState()).counts == {"query images": 1, "gallery": 2}


def test_an_image_without_its_file_is_counted_as_missing(layouts):
    (layouts / "VOCdevkit/VOC2012/JPEGImages/2008_000003.jpg").unlink()
    (layouts / "VOCdevkit/VOC2012/JPEGImages/2008_000004.jpg").write_bytes(b"")
    (need,) = data_state("voc", HubState()).missing
    assert "1 of 2" in need.what and "host.robots.ox.ac.uk" in need.source


def test_damaged_annotations_are_told_by_the_loader(layouts):
    (layouts / "VOCdevkit/VOC2007/Annotations/000001.xml").write_text("<a><b></a>")
    (need,) = data_state("voc", HubState()).missing
    assert "000001.xml is missing or damaged" in need.what


def test_annotations_of_another_form_are_one_line(layouts):
    (layouts / "coco/annotations/instances_val2017.json").write_text('{"images": 7}')
    (need,) = data_state("coco", HubState()).missing
    assert need.what.startswith("coco: ") and "cocodataset.org" in need.source


def test_no_image_is_opened(layouts, monkeypatch):
    monkeypatch.setattr("foir.images.read", lambda *args: pytest.fail("it decodes"))
    assert all(data_state(name, HubState()).missing == () for name in ("coco", "voc", "visual_genome", "permir"))


def test_an_unknown_data_set_is_one_sentence():
    with pytest.raises(Unavailable, match="no data set 'imagenet'"):
        data_state("imagenet", HubState())


@pytest.mark.parametrize("name", [name for name in OFFICIAL if not name.endswith("-val")])
def test_the_documentation_names_every_file(name):
    (row,) = (line for line in DOCS.read_text().splitlines() if line.startswith("| `") and f"`{name}`" in line)
    for download in LAYOUTS[name].downloads:
        for pattern in download.files:
            literal = [part for part in Path(pattern).parts if "*" not in part]
            assert literal[0] in row and literal[-1] in row
