"""Miniature copies of all official layouts, and a local cache of the Hub with stand-in weights."""

import json

import pytest

from eval.datasets import karpathy
from tests.eval.datasets.test_classification import write_cifar, write_stl, write_tiny_imagenet
from tests.eval.datasets.test_coco import coco
from tests.eval.datasets.test_coco_hub import hub_copy
from tests.eval.datasets.test_instre import write_instre
from tests.eval.datasets.test_karpathy import flickr, write_coco
from tests.eval.datasets.test_permir import write_permir
from tests.eval.datasets.test_visual_genome import visual_genome
from tests.eval.datasets.test_voc import voc
from tests.eval.datasets.test_voxdet import write_voxdet

__all__ = ["coco", "flickr", "hub_copy", "visual_genome", "voc"]  # fixtures
COMMIT = "1234567890" * 4


@pytest.fixture
def empty_machine(root, tmp_path, monkeypatch):
    """No data, no weights, no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("FOIR_SAM", raising=False)
    monkeypatch.delenv("FOIR_REMOTE_CODE", raising=False)
    return tmp_path


@pytest.fixture
def layouts(empty_machine, coco, voc, visual_genome, flickr, hub_copy, monkeypatch):
    """Every official layout under FOIR_DATA; returns that folder."""
    hub_copy(val=[[(1, [5.0, 5, 50, 38])]], train=[[(0, [1.0, 1, 5, 5])], [(1, [2.0, 2, 9, 9])]])
    folder, names = write_coco(empty_machine)
    monkeypatch.setitem(karpathy.FINE_IMAGES, "coco-fg", 1)
    (folder / "MSCOCO_FG_ann.json").write_text(json.dumps({names[1]: ["fine"]}))
    box = {"bbox": [1, 1, 2, 2], "score": 0.5}
    (folder / "detections_val2014.json").write_text(json.dumps([{"image_id": 8, **box}]))
    (flickr / "detections.json").write_text(json.dumps([{"image_id": n, **box} for n in ("11", "12", "13")]))
    (flickr / "flickr30k_entities" / "Sentences").mkdir()
    for number in (11, 12, 13, 14):
        (flickr / "flickr30k_entities" / "Sentences" / f"{number}.txt").write_text("[/EN#1/people A man] stands .\n")
    write_permir(empty_machine)
    write_voxdet(empty_machine)
    for subset in ("INSTRE-S1", "INSTRE-S2"):
        write_instre(empty_machine, subset)
    write_cifar(empty_machine)
    write_stl(empty_machine)
    write_tiny_imagenet(empty_machine)
    return empty_machine


def cache_weights(cache, repo, files=("config.json", "model.safetensors")):
    """Stand-in weights of a repository in a local cache of the Hub; returns their folder."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    for name in files:
        (snapshot / name).write_bytes(b"{}")
    return snapshot
