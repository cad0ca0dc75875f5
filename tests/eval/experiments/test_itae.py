"""The table of clusterings: official files in miniature, and the runner on a model with and without artifacts."""

import numpy as np
import pytest

from eval import datasets
from eval.cli import main
from eval.datasets import Classed
from eval.experiments import itae
from eval.experiments.specs import Clustering, Row
from eval.report.results import read
from foir import Unavailable
from foir.clustering import clustering_scores, kmeans
from tests.conftest import scene
from tests.foir.methods.test_itae import SINKS, encoder


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    return tmp_path


def planes(seed, side):
    return np.random.default_rng(seed).integers(0, 256, (3, side, side), dtype=np.uint8)


def test_cifar_in_its_binary_version(root):
    ten, hundred = root / "cifar-10-batches-bin", root / "cifar-100-binary"
    ten.mkdir()
    hundred.mkdir()
    (ten / "batches.meta.txt").write_text("airplane\nautomobile\n\n")
    (hundred / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\n")
    rows = [bytes([kind]) + planes(i, 32).tobytes() for i, kind in enumerate((1, 0))]
    (ten / "test_batch.bin").write_bytes(b"".join(rows))
    (hundred / "test.bin").write_bytes(b"".join(bytes([7, 2]) + planes(i, 32).tobytes() for i in range(2)))
    data = datasets.read_classed("cifar10")
    assert data.names == ("airplane", "automobile") and data.classes.tolist() == [1, 0]
    np.testing.assert_array_equal(np.asarray(data.pictures[1]()), planes(1, 32).transpose(1, 2, 0))
    assert datasets.read_classed("cifar100").classes.tolist() == [2, 2]
    (ten / "test_batch.bin").write_bytes(b"".join(rows)[:-1])
    with pytest.raises(Unavailable, match="no whole number of records"):
        datasets.read_classed("cifar10")


def test_stl_runs_down_the_columns(root):
    folder = root / "stl10_binary"
    folder.mkdir()
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    (folder / "test_X.bin").write_bytes(planes(0, 96).transpose(0, 2, 1).tobytes())
    (folder / "test_y.bin").write_bytes(bytes([2]))
    data = datasets.read_classed("stl10")
    assert data.classes.tolist() == [1]
    np.testing.assert_array_equal(np.asarray(data.pictures[0]()), planes(0, 96).transpose(1, 2, 0))


def test_tiny_imagenet_takes_its_validation_pictures(root):
    folder = root / "tiny-imagenet-200" / "val"
    (folder / "images").mkdir(parents=True)
    for i in range(2):
        scene(i, (64, 64)).save(folder / "images" / f"val_{i}.JPEG")
    (folder / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    data = datasets.read_classed("tiny-imagenet")
    assert data.names == ("n01", "n02") and data.classes.tolist() == [1, 0] and data.pictures[0]().size == (64, 64)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "tiny-imagenet"])
def test_absent_data_says_what_to_put_where(root, name):
    with pytest.raises(Unavailable, match="FOIR_DATA"):
        datasets.read_classed(name)


def made(count=24):
    pictures = tuple((lambda i=i: scene(i, (64, 64))) for i in range(count))
    return Classed("made", pictures, np.arange(count) % 3, ("a", "b", "c"))


TABLE = Clustering("made", "made", (), (), (Row("cbir"), Row("itae")), 2)


def test_a_clean_model_has_no_artifacts_and_one_row_twice():
    cells = itae.run(TABLE, made(), encoder(()))
    told = {c.options["artifacts"] for c in cells if c.method == "itae"}
    assert told == {"none"}
    assert all(c.value == 0 for c in cells if "minus" in c.metric)


def test_sinks_are_told_and_the_scores_are_those_of_slow_code():
    data, model = made(), encoder(SINKS)
    cells = itae.run(TABLE, data, model)
    row = next(c for c in cells if c.method == "itae")
    assert (row.options["component"], row.options["artifacts"]) == ("v", "4.69 %")
    vectors = model.finish(model.prefix(model.pixels([load() for load in data.pictures]))).vectors.numpy()
    slow = [clustering_scores(kmeans(vectors, 3, seed=seed), data.classes)["NMI"] for seed in range(2)]
    (plain,) = [c for c in cells if (c.method, c.metric, c.options["features"]) == ("cbir", "NMI", "unit")]
    assert plain.value == pytest.approx(100 * np.mean(slow), abs=1e-6)
    assert (plain.low, plain.high) == pytest.approx((100 * min(slow), 100 * max(slow)))


def test_the_command_line_runs_it_offline(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("eval.datasets.classes.SINGLE", 6)
    out = tmp_path / "cells.json"
    words = ["run", "itae-table", "--encoder", "toy", "--dataset", "playroom-single", "--device", "cpu"]
    assert main([*words, "--results", str(tmp_path), "--json", str(out)]) == 0
    assert {c.metric for c in read(out)} >= {"ACC", "NMI", "ARI"}
