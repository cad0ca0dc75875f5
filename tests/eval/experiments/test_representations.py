"""The mean, the maximum and the regions are of the crops."""

import torch

from eval.experiments.representations import REPRESENTATIONS, cache_key
from foir.small_objects.crops import DetectedObject
from foir.small_objects.embed import embed_images
from foir.small_objects.mao import mean_vector
from tests.conftest import scene

THINGS = (DetectedObject((10, 10, 60, 60)), DetectedObject((80, 40, 110, 100)))


def test_mean_and_max_are_of_the_crops(made, toy):
    pictures = [(scene(0), THINGS), (scene(1), ())]
    crops, mean = REPRESENTATIONS["max"](toy, pictures, {}), REPRESENTATIONS["mean"](toy, pictures, {})
    assert [len(some) for some in crops] == [2, 1]
    torch.testing.assert_close(mean[0], mean_vector(crops[0], torch.tensor([0, 0])))
    torch.testing.assert_close(mean[1], embed_images(toy, [scene(1)]))


def test_regions_of_crops_hold_each_crop_and_other_views_are_kept_apart(toy):
    pictures = [(scene(0), THINGS), (scene(1), ())]
    crops = REPRESENTATIONS["max"](toy, pictures[:1], {})[0]
    (found,) = REPRESENTATIONS["regions"](toy, pictures[:1], {"views": "crops", "limit": 256})
    (whole,) = REPRESENTATIONS["regions"](toy, pictures[:1], {"limit": 256})
    assert len(found) == len(whole) + 2 and (found @ crops.T).max(0).values.min() > 0.999
    tiled = REPRESENTATIONS["regions"](toy, pictures, {"views": "tiles"})
    assert [len(vectors) for vectors in tiled] == [16, 16]
    keys = [cache_key("regions", options) for options in ({}, {"views": "tiles"}, {"limit": 8})]
    assert keys[0] == {**keys[1], "views": "whole"} and keys[2] == {**keys[0], "limit": 8}
