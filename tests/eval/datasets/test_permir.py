"""PerMiR in miniature; its pickled masks cannot run code."""

import pickle

import numpy as np
import pytest

from eval import datasets
from eval.datasets.base import InstanceDataset
from foir import Unavailable
from tests.conftest import scene


def write_permir(folder, videos=2):
    for number in range(videos):
        video = folder / "PerMIRS" / str(number)
        video.mkdir(parents=True)
        frames = []
        for frame in range(3):
            scene(10 * number + frame, (120, 90)).save(video / f"{frame}.jpg")
            mask = np.zeros((90, 120), bool)
            mask[5 : 25 + frame, 30:60] = True
            frames.append({7: mask, 8: np.roll(mask, 40, 0)})
        np.save(video / "masks.npz.npy", np.array(frames, dtype=object), allow_pickle=True)


def test_permir(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    write_permir(tmp_path)
    data = datasets.load("permir", InstanceDataset)
    assert (len(data.scenes), len(data.queries)) == (6, 2)
    assert [thing.box for thing in data.scenes[0].objects()] == [(30, 5, 60, 25), (30, 45, 60, 65)]
    assert data.queries[1].load().size == (30, 30) and data.queries[1].instance == "1"


def test_other_masks_are_another_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    write_permir(tmp_path)
    before = datasets.load("permir", InstanceDataset).digest
    path = tmp_path / "PerMIRS" / "1" / "masks.npz.npy"
    frames = np.load(path, allow_pickle=True)
    frames[2][8] = np.roll(frames[2][8], 1, 1)
    np.save(path, frames, allow_pickle=True)
    assert datasets.load("permir", InstanceDataset).digest != before


def test_a_file_of_masks_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    write_permir(tmp_path, 1)

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    path = tmp_path / "PerMIRS" / "0" / "masks.npz.npy"
    np.save(path, np.array([{1: Evil()}] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(Unavailable, match="cannot be read"):
        datasets.load("permir", InstanceDataset).scenes[0].objects()
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(Unavailable, match="cannot be read"):
        datasets.load("permir", InstanceDataset).scenes[0].objects()


def test_a_video_without_a_mask_on_its_first_frame_is_no_query(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    write_permir(tmp_path, 3)
    mask = np.ones((90, 120), bool)
    for video, first in (("0", {}), ("1", {7: mask & False, 8: mask})):
        frames = np.array([first, {7: mask}, {7: mask}], dtype=object)
        np.save(tmp_path / "PerMIRS" / video / "masks.npz.npy", frames, allow_pickle=True)
    data = datasets.load("permir", InstanceDataset)
    assert [query.instance for query in data.queries] == ["2"] and len(data.scenes) == 9
    assert list(data.oddities.values()) == [2] and data.scenes[0].objects() == ()
