"""Visual Genome in miniature: aliases, frequent names, lists."""

import json

import pytest

from eval import datasets
from eval.datasets.base import Dataset
from foir import Unavailable
from tests.eval.datasets.test_coco import box_of, pictures


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
    monkeypatch.setattr("eval.datasets.visual_genome.CATEGORIES", 2)
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


@pytest.mark.parametrize("text", ["", '{"image_id": 1}', '[{"image_id": 1, "objects": [{"names": ["tree"]}]}]'])
def test_damaged_annotations_of_visual_genome_are_one_sentence(visual_genome, text):
    (visual_genome / "objects.json").write_text(text)
    with pytest.raises(Unavailable, match=r"annotations .*objects\.json are damaged"):
        datasets.load("visual_genome", Dataset)
