"""Hours, disk and memory, from counted operations and sizes."""

from dataclasses import replace

import pytest

from eval.benchmarks import cost
from eval.experiments import phs, registry
from eval.experiments.specs import Row
from eval.preflight import machine

SIZES = {"gallery": 1000, "query images": 10, "boxes": 20}


def test_the_work_of_a_table_is_its_images_and_its_prompts(toy):
    shape = cost.model_shape("toy")
    plain = machine.work(replace(phs.TABLE1, rows=(Row("cbir"),)), "voc", "toy", SIZES)
    assert plain.images == 1010 and plain.is_whole
    assert plain.operations == pytest.approx(shape.operations * 1010)
    masked = machine.work(replace(phs.TABLE1, rows=(Row("mask"),)), "voc", "toy", SIZES)
    assert masked.operations == pytest.approx(shape.operations * 1030)
    assert plain.stored == 4 * 1000 * (48 + 48 + 48)  # feature, head outputs, CLS token


def test_scenes_are_encoded_again_object_by_object():
    work = machine.work(registry()["needles-resolution"], "voxdet", "toy", {"scenes": 10, "queries": 5})
    assert work.operations == pytest.approx(cost.model_shape("toy").operations * (15 + 2 * 5 * 10))


def test_boxes_that_are_not_known_make_it_a_lower_bound():
    assert not machine.work(phs.TABLE1, "visual_genome", "toy", {"gallery": 10, "query images": 1}).is_whole
    assert machine.work(phs.TABLE1, "visual_genome", "toy", {}) == machine.Work()


def test_a_share_is_what_is_counted(toy):
    image, _, _, _ = cost.counted(toy, ["cbir"])
    for method in ("phs", "foveal", "mask", "attention_mask"):
        assert cost.counted(toy, [method])[1] / image == pytest.approx(machine._share(Row(method), 4), abs=0.1)


def test_a_gpu_that_is_too_small_is_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (24 * 10**9, 24 * 10**9))
    (need,) = machine.gpu_needs("internvl-g")
    assert need.what == "60 GB of GPU memory for internvl-g, 24 GB are free"
    assert machine.gpu_needs("toy") == []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert machine.gpu_needs("internvl-g") == []


def test_a_disk_that_is_too_small_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "disk_free", lambda folder: 10**9)
    (need,) = machine.disk_needs(tmp_path / "results", 3 * 10**9)
    assert need.what.startswith("2.0 GB more on the disk of ") and "--results" in need.source
    (tmp_path / "results" / "kept").mkdir(parents=True)
    (tmp_path / "results" / "kept" / "a.npz").write_bytes(bytes(1000))
    assert machine.disk_needs(tmp_path / "results", 10**9 + 1000) == []


def test_the_rate_is_measured():
    assert machine.rate() > 1e6 and machine.reading_ms() > 0
