"""Instances on scenes: the runner against a slow literal one, the ways, and the data sets in their official layouts."""

import json
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval import datasets
from eval.cli import main
from eval.datasets import Instances, Scene, Wanted
from eval.experiments import needles
from eval.experiments.mao import LEANING
from eval.experiments.own import EXPERIMENTS
from eval.experiments.representations import WAYS, gem
from eval.experiments.results_cache import Store
from eval.experiments.specs import Needles, Row
from eval.report import published
from eval.report.results import read
from foir import Unavailable
from foir.playroom import compose, sprites
from foir.small_objects.crops import DetectedObject
from foir.small_objects.embed import embed_images
from foir.small_objects.mao import MODES, mean_vector
from tests.conftest import scene

THINGS = (DetectedObject((10, 10, 60, 60)), DetectedObject((80, 40, 110, 100)))
ROWS = tuple(Row(name, {} if name in ("cls", "gem") else {"boxes": "annotated"}) for name in WAYS)
TABLE = Needles("made", "made", ("made",), ("toy",), (*ROWS, Row("mao", {"boxes": "detected"}), Row("GSS")))


class Nothing:
    """Finds nothing."""

    name = "nothing"

    def __call__(self, image):
        return []


@pytest.fixture(scope="module")
def made():
    """Six scenes with three instances on two each, and one query for each instance."""
    scenes = tuple(
        Scene(partial(scene, i), lambda: THINGS, frozenset([f"thing {i % 3}"]), {"size": "ab"[i // 3]})
        for i in range(6)
    )
    return Instances("made", scenes, tuple(Wanted(partial(scene, 10 + i), f"thing {i}") for i in range(3)))


def slow_average_precision(scores, right):
    ranked = [right[i] for i in sorted(range(len(scores)), key=lambda i: -scores[i])]
    return np.mean([sum(ranked[: i + 1]) / (i + 1) for i, hit in enumerate(ranked) if hit])


def test_the_runner_says_what_slow_code_says(made, toy, tmp_path):
    cells = needles.run(TABLE, made, toy, Nothing, Store(tmp_path))
    pictures = [(load.read(), THINGS) for load in made.scenes]
    for row in ROWS:
        pool = gem if row.method == "gem" else embed_images
        asked = pool(toy, [query.read() for query in made.queries])
        stand_for = WAYS[row.method](toy, pictures, {})
        values = []
        for query, vector in zip(made.queries, asked, strict=True):
            scores = [float((some @ vector).max()) for some in stand_for]
            values.append(slow_average_precision(scores, [query.instance in s.instances for s in made.scenes]))
        (cell,) = [c for c in cells if c.method == row.method and c.metric == "mAP" and c.options == row.options]
        assert cell.value == pytest.approx(100 * np.mean(values), abs=1e-3)
        assert (cell.n, cell.status) == (3, "ok")


def test_a_curve_counts_its_own_scenes_and_leaves_other_right_ones_out():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]])
    right, neither = np.array([[False, False, True, False]]), np.array([[True, False, False, False]])
    assert needles._average_precisions(scores, right, neither)[0] == pytest.approx(1 / 2)
    assert needles._average_precisions(scores, right, neither & False)[0] == pytest.approx(1 / 3)


def test_rows_that_cannot_run_say_so_and_differences_have_names_of_their_own(made, toy, tmp_path):
    cells = needles.run(TABLE, made, toy, Nothing, Store(tmp_path))
    assert not [cell for cell in cells if cell.method == "GSS"]  # nobody measured it here
    named = {cell.metric for cell in cells if cell.method == "mao"}
    assert named == {"mAP", "mAP minus cls", "mAP minus mean"}
    assert {cell.options.get("size") for cell in cells if cell.method == "mao"} == {None, "a", "b"}
    found = [c for c in cells if c.method == "mao" and c.options == {"boxes": "detected"} and c.metric == "mAP"]
    (plain,) = [c for c in cells if c.method == "cls" and c.metric == "mAP" and not c.options]
    assert found[0].value == pytest.approx(plain.value)  # a picture on which nothing is found has its plain feature


def test_one_query_is_enough_and_points_of_a_curve_without_any_are_left_out(made, toy, tmp_path):
    alone = Instances("made", made.scenes[:1], made.queries)
    cells = needles.run(TABLE, alone, toy, Nothing, Store(tmp_path), limit=1)
    assert {cell.options.get("size") for cell in cells if cell.method == "cls"} == {None, "a"}


def test_without_a_detector_its_rows_are_not_run(made, toy, tmp_path):
    def absent():
        raise Unavailable("No weights.")

    cells = needles.run(TABLE, made, toy, absent, Store(tmp_path))
    states = {cell.options.get("boxes"): cell.status for cell in cells if cell.method == "mao" and cell.metric == "mAP"}
    assert states == {"annotated": "ok", "detected": "not_run"}


def test_mini_leans_as_its_mode_says():
    mode = MODES["mini"]
    assert {"alpha": mode.alpha, "steps": mode.steps} == LEANING


def test_a_second_run_takes_over_what_was_made(made, toy, tmp_path):
    first = needles.run(TABLE, made, toy, Nothing, Store(tmp_path))
    gone: Any = None
    broken = Instances("made", tuple(Scene(gone, gone, s.instances, s.part) for s in made.scenes), made.queries)
    again = needles.run(TABLE, broken, toy, Nothing, Store(tmp_path))
    assert [cell.value for cell in again] == [cell.value for cell in first]


def test_mean_and_max_are_of_the_crops(made, toy):
    pictures = [(scene(0), THINGS), (scene(1), ())]
    crops, mean = WAYS["max"](toy, pictures, {}), WAYS["mean"](toy, pictures, {})
    assert [len(some) for some in crops] == [2, 1]
    torch.testing.assert_close(mean[0], mean_vector(crops[0], torch.tensor([0, 0])))
    torch.testing.assert_close(mean[1], embed_images(toy, [scene(1)]))


# The data sets.


def test_needles_were_never_trained_on_and_each_lies_on_one_scene_of_each_size():
    data = datasets.read_instances("needles-playroom")
    held = {sprite.code for sprite in sprites() if sprite.held_out}
    asked = {query.instance for query in data.queries}
    assert asked <= held and len(asked) == 24
    for instance in asked:
        on = [one.part["size"] for one in data.scenes if instance in one.instances]
        assert sorted(on) == ["0.5 %", "1 %", "2 %", "5 %"]
    counts = {one.part["objects"] for one in data.scenes}
    assert counts == {"1", "2", "3", "4", "6", "8", "12", "30"}


def test_a_needle_covers_what_it_says_and_its_scene_holds_no_other():
    data = datasets.read_instances("needles-playroom")
    for number in (0, 5):
        one = data.scenes[number]
        things, image = one.things(), one.read()
        shares = [100 * np.asarray(thing.mask).mean() for thing in things]
        said = float(one.part["size"].split()[0])
        assert min(abs(share - said) for share in shares) < 0.15 * said
        assert len(things) <= int(one.part["objects"]) and image.size == (640, 480)
    code = next(iter(data.scenes[3].instances))
    sprite = next(sprite for sprite in sprites() if sprite.code == code)
    on = compose("needles", 3, objects=int(data.scenes[3].part["objects"]) - 1, needle=(sprite, 0.05)).objects
    assert [thing.sprite.code for thing in on if thing.sprite.held_out] == [code]
    assert datasets.read_instances("needles-playroom-320").scenes[0].read().size == (320, 240)


def voxdet(folder):
    test, video = folder / "VoxDet/RoboTools/test", folder / "VoxDet/RoboTools/test_video"
    images, notes = [], []
    for number in range(2):
        path = test / f"{number:06}" / "rgb" / "000.png"
        path.parent.mkdir(parents=True)
        scene(number, (200, 150)).save(path)
        images.append({"id": number, "file_name": str(path.relative_to(test))})
        notes.append({"image_id": number, "category_id": number + 1, "bbox": [10, 20, 30, 40]})
    (test / "scene_gt_coco_all.json").write_text(json.dumps({"images": images, "annotations": notes}))
    for name in ("hammer_000001", "nut_000002", "unseen_000009"):
        for part in ("rgb", "mask"):
            (video / name / part).mkdir(parents=True)
        scene(5, (100, 80)).save(video / name / "rgb" / "0.png")
        mask = np.zeros((80, 100), np.uint8)
        mask[10:30, 40:60] = 255
        Image.fromarray(mask).save(video / name / "mask" / "0.png")


def test_voxdet(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match="RoboTools"):
        datasets.read_instances("voxdet")
    voxdet(tmp_path)
    data = datasets.read_instances("voxdet")
    assert [set(one.instances) for one in data.scenes] == [{"1"}, {"2"}]
    assert [query.instance for query in data.queries] == ["1", "2"]  # what is on no scene cannot be found
    assert data.scenes[0].things()[0].box == (10, 20, 40, 60)
    assert data.queries[0].read().size == (20, 20)


def permir(folder, videos=2):
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
    permir(tmp_path)
    data = datasets.read_instances("permir")
    assert (len(data.scenes), len(data.queries)) == (6, 2)
    assert [thing.box for thing in data.scenes[0].things()] == [(30, 5, 60, 25), (30, 45, 60, 65)]
    assert data.queries[1].read().size == (30, 30) and data.queries[1].instance == "1"


def test_a_file_of_masks_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    permir(tmp_path, 1)

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    path = tmp_path / "PerMIRS" / "0" / "masks.npz.npy"
    np.save(path, np.array([{1: Evil()}] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(Unavailable, match="cannot be read"):
        datasets.read_instances("permir").scenes[0].things()
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(Unavailable, match="cannot be read"):
        datasets.read_instances("permir").scenes[0].things()


def test_instre_keeps_what_is_small(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    kind = tmp_path / "INSTRE" / "INSTRE-S1" / "01a_mug"
    kind.mkdir(parents=True)
    for number, side in enumerate((10, 12, 35, 30, 60, 8)):  # of 100 x 100: 1, 1.4, 12, 9, 36 and 0.6 %
        scene(number, (100, 100)).save(kind / f"{number:03}.jpg")
        (kind / f"{number:03}.txt").write_text(f"5 6 {side} {side}\n")
    scene(9).save(kind / "999.jpg")  # nothing is known of it
    wider = datasets.read_instances("instre-xs")
    assert (len(wider.scenes), len(wider.queries)) == (3, 2)
    smallest = datasets.read_instances("instre-xxs")
    assert (len(smallest.scenes), len(smallest.queries)) == (2, 1)
    assert smallest.scenes[0].things()[0].box == (5, 6, 15, 16)
    assert smallest.queries[0].read().size == (12, 12)


@pytest.mark.parametrize(
    ("dataset", "encoder", "names", "value"),
    [
        ("voxdet", "dinov2-base", ("MaO", "zero-shot"), 70.20),
        ("voxdet", "clip-base-projected", ("CLIP", "zero-shot"), 44.52),
        ("instre-xxs", "siglip-base", ("AMES", "fine-tuned"), 68.08),
        ("permir", "dinov2-base", ("MaO", "fine-tuned"), 90.07),
    ],
)
def test_published_numbers_are_found(dataset, encoder, names, value):
    assert published.value("mao", "SoIR README", dataset, encoder, names, "mAP") == value


def test_the_ablation_knows_both_columns():
    experiment: Any = EXPERIMENTS["mao-ablation"]
    about = {"dataset": "voxdet", "encoder": "dinov2-base"}
    found = {
        (row.published, row.options.get("boxes")): needles._published(experiment, row, about)
        for row in experiment.rows
        if row.published
    }
    whole = ("MaO", "+multi-object optimisation (MaO)")
    assert (found[whole, "annotated"], found[whole, "detected"]) == (83.70, 68.54)
    assert found[("MaO", "+full-image optimisation"), "detected"] == 48.24


def test_one_command_measures_an_official_layout_end_to_end(tmp_path, monkeypatch, capsys):
    """On a miniature copy and the true architecture with random weights, objects as they are annotated."""
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    voxdet(tmp_path)
    out = tmp_path / "cells.json"
    experiment = EXPERIMENTS["mao-main-dinov2-base"]
    monkeypatch.setattr("foir.small_objects.detect.load", lambda encoder: Nothing())
    args = ["run", experiment.name, "--dataset", "voxdet", "--random", "--json", str(out), "--results", str(tmp_path)]
    assert main(args) == 0, capsys.readouterr().err
    cells = read(out)
    (mao,) = [c for c in cells if c.method == "mao" and c.metric == "mAP" and c.options == {"boxes": "annotated"}]
    assert (mao.published, mao.status) == (70.20, "ok") and 0 <= (mao.value or -1) <= 100
    assert {c.status for c in cells if c.options.get("trained") and c.method == "mao"} == {"not_run"}
