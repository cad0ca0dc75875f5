"""Instance retrieval against slow code; rows that cannot be measured."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from eval.cli import main
from eval.datasets.base import InstanceDataset, InstanceQuery, Scene
from eval.experiments import instance_retrieval, registry, scene_vectors
from eval.experiments.instance_retrieval import MINI_OPTIONS, InstanceRetrieval
from eval.experiments.representations import REPRESENTATIONS, gem
from eval.experiments.specs import Row, RunContext
from eval.report.results import read
from foir import Unavailable
from foir.small_objects.crops import DetectedObject
from foir.small_objects.embed import embed_images
from foir.small_objects.mao import MODES
from tests.conftest import scene
from tests.eval.datasets.test_voxdet import write_voxdet

THINGS = (DetectedObject((10, 10, 60, 60)), DetectedObject((80, 40, 110, 100)))


ROWS = tuple(Row(name, {} if name in ("cls", "gem") else {"boxes": "annotated"}) for name in REPRESENTATIONS)


TABLE = InstanceRetrieval("made", "made", ("made",), ("toy",), (*ROWS, Row("mao", {"boxes": "detected"}), Row("GSS")))


class Halves:
    """As SAM: the left half of each box."""

    name = "halves"

    def outline(self, image):
        def outline(prompt, mask):
            pixels = np.zeros(mask.pixels.shape, bool)
            for x0, y0, x1, y1 in prompt.boxes:
                pixels[int(y0) : int(y1), int(x0) : int((x0 + x1) / 2)] = True
            return pixels

        return outline


class Nothing:
    """Finds nothing."""

    name = "nothing"

    def __call__(self, image):
        return []


@pytest.fixture(autouse=True)
def nothing_detected(monkeypatch):
    monkeypatch.setattr("foir.segment.load_sam", lambda device: Halves())
    monkeypatch.setattr("foir.small_objects.detect.load", lambda encoder: Nothing())


@pytest.fixture(scope="module")
def made():
    """Six scenes with three instances on two each, and one query for each instance."""
    scenes = tuple(
        Scene(partial(scene, i), lambda: THINGS, {f"thing {i % 3}": 0.004 if i < 3 else 0.02}, 2) for i in range(6)
    )
    return InstanceDataset("made", scenes, tuple(InstanceQuery(partial(scene, 10 + i), f"thing {i}") for i in range(3)))


def slow_average_precision(scores, right):
    ranked = [right[i] for i in sorted(range(len(scores)), key=lambda i: -scores[i])]
    return np.mean([sum(ranked[: i + 1]) / (i + 1) for i, hit in enumerate(ranked) if hit])


def test_the_runner_says_what_slow_code_says(made, toy, tmp_path):
    cells = TABLE.measure(made, toy, RunContext(results=tmp_path))
    pictures = [(load.load(), THINGS) for load in made.scenes]
    for row in ROWS:
        pool = gem if row.method == "gem" else embed_images
        asked = pool(toy, [query.load() for query in made.queries])
        stand_for = REPRESENTATIONS[row.method](toy, pictures, {})
        values = []
        for query, vector in zip(made.queries, asked, strict=True):
            scores = [float((some @ vector).max()) for some in stand_for]
            values.append(slow_average_precision(scores, [query.instance in s.areas for s in made.scenes]))
        (cell,) = [c for c in cells if c.method == row.method and c.metric == "mAP" and c.options == row.options]
        assert cell.value == pytest.approx(100 * np.mean(values), abs=1e-3)
        assert (cell.n, cell.status) == (3, "ok")


def test_a_curve_counts_its_own_scenes_and_leaves_other_right_ones_out():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]])
    right, neither = np.array([[False, False, True, False]]), np.array([[True, False, False, False]])
    assert instance_retrieval._average_precisions(scores, right, neither)[0] == pytest.approx(1 / 2)
    assert instance_retrieval._average_precisions(scores, right, neither & False)[0] == pytest.approx(1 / 3)


def test_rows_that_cannot_run_say_so_and_differences_have_names_of_their_own(made, toy, tmp_path):
    cells = TABLE.measure(made, toy, RunContext(results=tmp_path))
    assert not [cell for cell in cells if cell.method == "GSS"]  # nobody measured it here
    named = {cell.metric for cell in cells if cell.method == "mao"}
    assert named == {"mAP", "mAP minus cls", "mAP minus mean"}
    assert {cell.options.get("size") for cell in cells if cell.method == "mao"} == {None, "0 to 0.75 %", "1.5 to 3 %"}
    found = [c for c in cells if c.method == "mao" and c.options == {"boxes": "detected"} and c.metric == "mAP"]
    (plain,) = [c for c in cells if c.method == "cls" and c.metric == "mAP" and not c.options]
    assert found[0].value == pytest.approx(plain.value)  # a picture on which nothing is found has its plain feature


def test_one_query_is_enough_and_points_of_a_curve_without_any_are_left_out(made, toy, tmp_path):
    alone = InstanceDataset("made", made.scenes[:1], made.queries)
    cells = TABLE.measure(alone, toy, RunContext(results=tmp_path, limit=1))
    assert {cell.options.get("size") for cell in cells if cell.method == "cls"} == {None, "0 to 0.75 %"}


def test_without_a_detector_its_rows_are_not_run(made, toy, tmp_path, monkeypatch):
    def absent(encoder):
        raise Unavailable("No weights.")

    monkeypatch.setattr("foir.small_objects.detect.load", absent)
    cells = TABLE.measure(made, toy, RunContext(results=tmp_path))
    states = {cell.options.get("boxes"): cell.status for cell in cells if cell.method == "mao" and cell.metric == "mAP"}
    assert states == {"annotated": "ok", "detected": "not_run"}


def test_annotated_boxes_become_masks_by_sam_and_without_it_their_rows_are_not_run(made, toy, tmp_path, monkeypatch):
    boxes_only = replace(made, has_masks=False)
    masks = scene_vectors.BoxMasks.load(toy)
    halves = masks(scene(0), THINGS)
    assert [int(np.asarray(item.mask).sum()) for item in halves] == [25 * 50, 15 * 60]
    known = DetectedObject((0, 0, 9, 9), np.ones((150, 200), bool))
    assert masks(scene(0), [known])[0].mask is known.mask
    with_masks = replace(made, scenes=tuple(replace(one, objects=lambda: tuple(halves)) for one in made.scenes))
    values = [
        [cell.value for cell in TABLE.measure(data, toy, RunContext(results=tmp_path / str(i))) if cell.method == "mao"]
        for i, data in enumerate((boxes_only, with_masks, made))
    ]
    assert values[0] == values[1] != values[2]

    def absent(device):
        raise Unavailable("No SAM.")

    monkeypatch.setattr("foir.segment.load_sam", absent)
    cells = TABLE.measure(boxes_only, toy, RunContext(results=tmp_path / "none"))
    states = {cell.options.get("boxes"): cell.status for cell in cells if cell.method == "mao" and cell.metric == "mAP"}
    assert states == {"annotated": "not_run", "detected": "ok"}
    assert next(cell for cell in cells if cell.method == "cls").status == "ok"


def test_results_are_split_by_the_instances_area_and_by_the_number_of_objects(toy, tmp_path, monkeypatch):
    """One query whose instance is small on one scene and large on the other, beside another instance."""

    class Finder(Nothing):
        def __call__(self, image):
            return THINGS[:1] if image.size[0] == 200 else [*THINGS, DetectedObject((5, 5, 30, 30))]

    monkeypatch.setattr("foir.small_objects.detect.load", lambda encoder: Finder())
    sizes = ((200, 150), (220, 150), (220, 150))
    areas = ({"a": 0.004, "b": 0.2}, {"a": 0.05}, {"b": 0.004})
    scenes = tuple(
        Scene(partial(scene, i, sizes[i]), lambda: THINGS, areas[i], count) for i, count in enumerate((1, 12, 25))
    )
    data = InstanceDataset("made", scenes, (InstanceQuery(partial(scene, 10), "a"),))
    cells = TABLE.measure(data, toy, RunContext(results=tmp_path))

    def groups(method, boxes):
        chosen = [c for c in cells if c.method == method and c.options.get("boxes") == boxes and c.metric == "mAP"]
        return {(n, c.options[n]) for c in chosen for n in ("size", "objects", "detections") if n in c.options}

    by_size = {("size", "0 to 0.75 %"), ("size", "3 to 10 %")}
    by_count, by_found = {("objects", "1"), ("objects", "10 to 14")}, {("detections", "1"), ("detections", "3")}
    assert groups("mao", "annotated") == by_size | by_count
    assert groups("mao", "detected") == by_size | by_found
    assert groups("cls", None) == by_size | by_count | by_found
    (differences,) = [
        c for c in cells if c.options == {"boxes": "detected", "detections": "3"} and c.metric == "mAP minus cls"
    ]
    assert differences.n == 1


def test_differences_are_to_rows_with_the_same_boxes(made, toy, tmp_path, monkeypatch):
    class Finder(Nothing):
        def __call__(self, image):
            return THINGS[:1]

    monkeypatch.setattr("foir.small_objects.detect.load", lambda encoder: Finder())
    rows = (Row("cls"), *(Row(m, {"boxes": b}) for b in ("annotated", "detected") for m in ("mean", "mao")))
    cells = replace(TABLE, rows=rows).measure(made, toy, RunContext(results=tmp_path))

    def value(method, boxes, metric):
        options = {"boxes": boxes} if boxes else {}
        return next(c.value for c in cells if (c.method, c.options, c.metric) == (method, options, metric))

    for boxes in ("annotated", "detected"):
        difference = value("mao", boxes, "mAP") - value("mean", boxes, "mAP")
        assert value("mao", boxes, "mAP minus mean") == pytest.approx(difference)


def test_mini_leans_as_its_mode_says():
    mode = MODES["mini"]
    assert {"alpha": mode.alpha, "steps": mode.steps} == MINI_OPTIONS


def test_a_second_run_takes_over_what_was_made(made, toy, tmp_path):
    first = TABLE.measure(made, toy, RunContext(results=tmp_path))
    gone: Any = None
    broken = InstanceDataset("made", tuple(Scene(gone, gone, s.areas, s.count) for s in made.scenes), made.queries)
    again = TABLE.measure(broken, toy, RunContext(results=tmp_path))
    assert [cell.value for cell in again] == [cell.value for cell in first]


def test_one_command_measures_an_official_layout_end_to_end(tmp_path, monkeypatch, capsys):
    """On a miniature copy and the true architecture with random weights, objects as they are annotated."""
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    for name in ("paper", "maskinversion"):  # a model of full size
        monkeypatch.setitem(MODES, name, replace(MODES[name], steps=2))
    write_voxdet(tmp_path)
    out = tmp_path / "cells.json"
    experiment = registry()["mao-main-dinov2-base"]
    args = ["run", experiment.name, "--dataset", "voxdet", "--random", "--json", str(out), "--results", str(tmp_path)]
    assert main(args) == 0, capsys.readouterr().err
    cells = read(out)
    (mao,) = [c for c in cells if c.method == "mao" and c.metric == "mAP" and c.options == {"boxes": "annotated"}]
    assert (mao.published, mao.status) == (70.20, "ok") and 0 <= (mao.value or -1) <= 100
    assert {c.status for c in cells if c.options.get("trained") and c.method == "mao"} == {"not_run"}
