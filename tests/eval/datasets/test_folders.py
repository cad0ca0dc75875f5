"""A folder of folders as a data set, and an experiment on it."""

import pytest
from PIL import Image

from eval import datasets
from eval.cli import main
from eval.datasets.base import Dataset
from eval.experiments import registry
from eval.report.results import read
from foir import Unavailable
from tests.conftest import scene


def test_a_folder_of_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match="folder of folders"):
        datasets.load("folders", Dataset)
    for name, count in (("apples", 3), ("pears", 2), ("quinces", 1)):
        (tmp_path / "folders" / name).mkdir(parents=True)
        for i in range(count):
            scene(i).save(tmp_path / "folders" / name / f"{i}.png")
        (tmp_path / "folders" / name / "notes.txt").write_text("no picture")
    data = datasets.load("folders", Dataset)
    assert data.categories == ("apples", "pears", "quinces") and data.labels.sum(0).tolist() == [3, 2, 1]
    assert [query.category for query in data.queries] == [0, 0, 0, 1, 1]
    out = tmp_path / "cells.json"
    words = ["run", "feedback-folders", "--encoder", "toy-words", "--device", "cpu", "--results", str(tmp_path / "r")]
    assert main([*words, "--json", str(out)]) == 0
    assert {c.method for c in read(out)} == {"cbir"}
    assert "feedback-coco-small" in registry() and "| MAP@R |" in capsys.readouterr().out


def test_a_photo_of_the_users_own_is_turned_as_viewers_show_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "folders" / "apples").mkdir(parents=True)
    for i in range(2):
        scene(i).save(tmp_path / "folders" / "apples" / f"{i}.jpg", exif=exif)
    data = datasets.load("folders", Dataset)
    assert data.gallery[0]().size == (120, 160) and data.queries[0].prompt.boxes[0] == (0, 0, 120, 160)
