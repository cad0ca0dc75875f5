"""Finer captions: both released layouts, names with extensions, lists of names, and too few photos."""

import json

import numpy as np
import pytest

from eval.datasets.fine_captions import fine_captions
from foir import Unavailable

NAMES = ["11", "13"]
FINE = {"11": ["fine 0", "fine 1"], "13": ["fine 2"]}
READ = {"11": ("fine 0", "fine 1"), "13": ("fine 2",)}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("X_FG_ann.json", FINE),
        ("X_FG.json", FINE),
        ("X_FG_ann.json", {f"{name}.jpg": texts for name, texts in FINE.items()}),
        ("X_FG_ann.json", [{"image": f"photos/{name}.jpg", "caption": texts} for name, texts in FINE.items()]),
        ("X_FG_ann.json", [{"image": name, "caption": text} for name, texts in FINE.items() for text in texts]),
    ],
    ids=["names", "first release", "extensions", "list", "a text each"],
)
def test_every_layout_is_read(file, content, tmp_path):
    (tmp_path / file).write_text(json.dumps(content))
    assert fine_captions(tmp_path, "X_FG", NAMES, 2) == READ


def test_the_pool_may_hold_photos_without_captions(tmp_path):
    (tmp_path / "X_FG_ann.json").write_text(json.dumps(FINE))
    np.save(tmp_path / "X_FG_img_filenames.npy", np.array(["11.jpg", "13.jpg", "000000000099.jpg"]))
    assert fine_captions(tmp_path, "X_FG", NAMES, 2) == READ
    np.save(tmp_path / "X_FG_img_filenames.npy", np.array(["11.jpg", "000000000099.jpg"]))
    with pytest.raises(Unavailable, match=r"Only 1 of the 2 photos .* X_FG_img_filenames\.npy those of 2"):
        fine_captions(tmp_path, "X_FG", NAMES, 2)


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "X_FG_ann.json").write_text(json.dumps(FINE))
    np.save(tmp_path / "X_FG_img_filenames.npy", np.array(["11.jpg", "13.jpg"], object), allow_pickle=True)
    with pytest.raises(Unavailable, match=r"is no plain array of names: .*astype\(str\)"):
        fine_captions(tmp_path, "X_FG", NAMES, 2)


@pytest.mark.parametrize(
    "content",
    [{"11": ["fine"]}, {"11": ["fine"], "13": []}, {"11": ["fine"], "99": ["other"]}],
    ids=["fewer", "none of one", "of another split"],
)
def test_fewer_photos_than_the_papers_are_one_sentence(content, tmp_path):
    (tmp_path / "X_FG.json").write_text(json.dumps(content))
    with pytest.raises(Unavailable) as refused:
        fine_captions(tmp_path, "X_FG", NAMES, 2)
    message = str(refused.value)
    assert message.startswith("Only 1 of the 2 photos of the paper have finer captions: ")
    assert str(tmp_path / "X_FG.json") in message and message.endswith("put the whole files there.")
    assert f"holds those of {len(content)} photos, of which " in message and " the 2 of the split;" in message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Unavailable, match=r"X_FG_ann\.json.*FOIR_DATA"):
        fine_captions(tmp_path, "X_FG", NAMES, 2)
