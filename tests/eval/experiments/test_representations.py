"""The mean and the maximum are of the crops."""

import torch

from eval.experiments.representations import REPRESENTATIONS
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
