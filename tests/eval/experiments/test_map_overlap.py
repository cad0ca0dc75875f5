"""Overlap of maps with an instance's mask, before and after Stage B."""

from functools import partial

import numpy as np
import pytest

from eval.datasets.base import InstanceDataset, InstanceQuery, Scene
from eval.experiments.map_overlap import MapOverlap
from eval.experiments.specs import RunContext
from foir.small_objects.crops import DetectedObject, crop_objects
from foir.small_objects.embed import embed_images, embed_objects
from tests.conftest import scene


def thing(x):
    mask = np.zeros((150, 200), bool)
    mask[30:90, x : x + 50] = True
    return DetectedObject((x, 30, x + 50, 90), mask)


def test_stage_b_raises_the_overlap_and_cosines_are_those_of_the_vectors(toy):
    things = [thing(10), thing(90)]
    scenes = tuple(Scene(partial(scene, i), partial(tuple, [things[i]]), {"a": 0.1}, 1) for i in range(2))
    data = InstanceDataset("made", scenes, (InstanceQuery(partial(scene, 7), "a"),))
    cells = MapOverlap("made", "made", (), ()).measure(data, toy, RunContext())
    values = {(cell.metric, cell.options["vector"]): cell.value for cell in cells}
    assert (values["overlap with the mask minus crop", "optimised"] or 0) > 0.05
    query = embed_images(toy, [scene(7)])[0]
    crops = [crop_objects(scene(i), [things[i]], toy.size)[0].image for i in range(2)]
    optimised = [embed_objects(toy, [(scene(i), [things[i]])])[0][0] for i in range(2)]
    expected = float((embed_images(toy, crops) @ query).mean())
    assert values["cosine with the query", "crop"] == pytest.approx(expected, abs=1e-4)
    expected = float(np.mean([float(vector @ query) for vector in optimised]))
    assert values["cosine with the query", "optimised"] == pytest.approx(expected, abs=1e-3)
    assert ("cosine with the query", "query") not in values
