"""A part of VOC2012 in COCO's format: its splits, and the classes that are scored."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from eval import datasets
from eval.cli import main
from eval.datasets import voc12_part
from eval.datasets.base import Dataset
from eval.report.results import read
from foir import Unavailable
from tests.conftest import scene


def write_part(folder, count=60):
    """Photos of cats and dogs by turns; a bird on the first three."""
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    (folder / "voc12_part" / "images").mkdir(parents=True)
    for number in range(count):
        name = f"2008_{number:06}.jpg"
        scene(number, (80, 60)).save(folder / "voc12_part" / "images" / name)
        images.append({"id": number, "file_name": name, "width": 80, "height": 60})
        for category in (1 + number % 2, 3) if number < 3 else (1 + number % 2,):
            box = [5 + number % 9, 5, 40, 30]
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": category, "bbox": box, "iscrowd": 0}
            )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(("cat", "dog", "bird"))]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "voc12_part" / "instances.json").write_text(json.dumps(data))


def test_a_photo_is_in_one_split_by_the_hash_of_its_name():
    digits = {name: hashlib.sha256(name.encode()).hexdigest()[-1] for name in (f"2008_{i:06}.jpg" for i in range(200))}
    for name, digit in digits.items():
        assert voc12_part.in_split(name, "012") == (digit in "012")
    assert not set("012") & set("345")


def test_rare_classes_are_not_scored_and_the_other_split_is_not_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    monkeypatch.setattr(voc12_part, "MIN_PHOTOS", 4)
    write_part(tmp_path, 120)
    test, dev = (datasets.load(name, Dataset) for name in ("voc12_part", "voc12_part_dev"))
    assert {test.categories[query.category] for query in test.queries} == {"cat", "dog"}
    assert test.leave_one_out and len(test.gallery) + len(dev.gallery) < 120
    assert "skewed" in datasets.layouts()["voc12_part"].note and test.orientation == "voc"
    assert test.digest != dev.digest


def test_the_papers_table_runs_on_it_with_its_order_and_its_ceiling(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    monkeypatch.setattr(voc12_part, "MIN_PHOTOS", 3)
    write_part(tmp_path, 70)
    out = tmp_path / "cells.json"
    args = ["run", "phs-table1", "--encoder", "mini", "--dataset", "voc12_part", "--limit", "4"]
    assert main([*args, "--json", str(out), "--results", str(tmp_path / "results")]) == 0
    printed = capsys.readouterr().out
    assert "class-skewed part" in printed and "perfect ranking" in printed and "Scored: cat, dog" in printed
    cells = read(out)
    assert not [cell for cell in cells if cell.encoder == "mini" and cell.published is not None]
    papers = [cell for cell in cells if cell.dataset == "voc" and cell.encoder == "dinov2-base-reg"]
    assert {cell.method: cell.published for cell in papers if cell.metric == "MP@100"} == {
        "cbir": 78.6, "mask": 79.0, "foveal": 79.0, "phs": 80.9,
    }  # fmt: skip
    assert all(not cell.revisions for cell in papers)  # nothing of ours was measured with them
    assert {tuple(sorted(cell.revisions)) for cell in cells if cell.status == "ok"} == {
        ("data", "dtype", "encoder", "format")
    }
    orders = [cell for cell in cells if cell.metric == "Spearman of MP@100"]
    assert len(orders) == 4
    for cell in orders:
        assert -1 <= (cell.low or 0) <= (cell.value or 0) <= (cell.high or 0) <= 1


@pytest.mark.parametrize("damage", [{"bbox": [1, 2, 3]}, {"bbox": "box"}, {"category_id": 99}])
def test_a_malformed_entry_is_one_sentence(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    write_part(tmp_path, 30)
    path = tmp_path / "voc12_part" / "instances.json"
    data = json.loads(path.read_text())
    data["annotations"] = [{**annotation, **damage} for annotation in data["annotations"]]
    path.write_text(json.dumps(data))
    with pytest.raises(Unavailable, match=r"instances\.json are damaged"):
        datasets.load("voc12_part", Dataset)


def test_the_splits_are_those_of_its_readme():
    folder = Path(os.environ.get("FOIR_DATA", Path(__file__).parents[4] / "shared" / "data")) / "voc12_part"
    if not folder.exists():
        pytest.skip(f"voc12_part is not at {folder}")
    test, dev = (datasets.load(name, Dataset) for name in ("voc12_part", "voc12_part_dev"))
    assert (len(test.gallery), len(dev.gallery)) == (673, 650)
    assert {"dog", "cat", "person", "horse", "cow", "sheep", "sofa", "chair"} <= {
        test.categories[query.category] for query in test.queries
    }
