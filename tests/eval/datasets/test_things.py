"""The query rule of the region tables."""

from dataclasses import replace

import numpy as np

from eval.datasets.base import Dataset, Query
from eval.datasets.things import point_at_things
from foir.prompts import Prompt
from tests.conftest import scene

SIDE = {"tiny": 10, "small": 20, "middle": 60, "large": 100}  # of 160 x 120 pixels: 0.5, 2, 19 and 52 %


def boxes(*names):
    """A picture's queries by class and size."""
    return [
        Query(picture, Prompt.box(0, 0, SIDE[size], SIDE[size]), kind)
        for picture, kind, size in (name.split() for name in names)
        for picture, kind in [(int(picture), int(kind))]
    ]


def made(queries):
    pictures = tuple((lambda i=i: scene(i)) for i in range(3))
    return Dataset("made", pictures, np.ones((3, 2), bool), tuple(queries), pictures, ("a", "b"), leave_one_out=True)


def test_photos_ask_for_the_largest_box_of_each_class_that_is_no_speck_and_no_backdrop():
    queries = boxes("0 0 small", "0 0 middle", "0 0 large", "0 1 small", "1 0 tiny", "1 1 large", "2 0 small")
    asked = point_at_things(made(queries))
    assert asked.queries == (queries[1], queries[3], queries[6])
    assert asked.leave_one_out and asked.name == "made"


def test_composed_scenes_ask_for_every_object():
    data = replace(made(boxes("0 0 tiny", "0 0 large")), shared_gallery="playroom-dev", leave_one_out=False)
    assert point_at_things(data) is data


def test_pictures_of_folders_ask_as_a_whole():
    data = made([Query(i, Prompt.box(0, 0, 160, 120), 0) for i in range(3)])
    assert point_at_things(data) is data


def test_a_box_beside_its_picture_is_nothing_to_point_at():
    beside = Query(0, Prompt.box(500, 500, 540, 540), 0)
    assert point_at_things(made([beside, *boxes("1 0 small")])).queries[0].image == 1
