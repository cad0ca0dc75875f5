"""MaO on a model whose features are colours: the thing is found where the mean of crops speaks of what is around it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from foir.encoders.base import Encoder
from foir.encoders.block import BlockModules, Mlp, identity
from foir.small_objects.crops import DetectedObject, crop_around
from foir.small_objects.embed import embed_images, embed_objects
from foir.small_objects.mao import MODES, Mode

SIDE, GRID, PICTURE = 32, 8, 64  # pixels of a crop, patches along it, pixels of a picture
RED, GREEN, BLUE, OLIVE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (60, 150, 0)


@pytest.fixture(scope="module")
def colours():
    """Its CLS token reports the mean colour of the middle 6 x 6 patches, its other tokens that of everything.

    Channels: three of colour, one for patches in the middle, one for the CLS token.
    """
    middle = torch.zeros(GRID, GRID)
    middle[1:7, 1:7] = 1

    def embed_colours(pixels):
        patches = torch.nn.functional.avg_pool2d(pixels, SIDE // GRID).flatten(2).transpose(1, 2)
        where = torch.stack([middle.flatten(), torch.zeros(GRID * GRID)], -1).expand(len(pixels), -1, -1)
        patches = torch.cat([patches, where], -1)
        cls = torch.zeros_like(patches[:, :1])
        cls[..., 4] = 1
        return torch.cat([cls, patches], 1)

    def qkv(x):
        queries, keys, values = torch.zeros_like(x), torch.zeros_like(x), x.clone()
        queries[..., 0], keys[..., 0] = 20 * x[..., 4], x[..., 3]
        values[..., 3:] = 0
        return queries, keys, values

    out, silent = nn.Linear(5, 5), nn.Linear(5, 5)
    with torch.no_grad():
        out.weight.copy_(torch.eye(5))
        for part in (out.bias, silent.weight, silent.bias):
            part.zero_()
    layer = BlockModules(
        1, identity, qkv, out.requires_grad_(False), nn.LayerNorm(5), Mlp((silent,), torch.relu, silent)
    )
    return Encoder(
        "colours", "1", embed_colours, [layer], identity, SIDE, (GRID, GRID), mean=(0,) * 3, std=(1,) * 3,
        project=lambda x: x[..., :3],
    )  # fmt: skip


def picture(ground, colour, around=None):
    """A small square of a colour on a ground, in a larger frame of another colour, which is no object."""
    pixels = np.full((PICTURE, PICTURE, 3), ground, np.uint8)
    if around is not None:
        pixels[24:40, 24:40] = around
    pixels[28:36, 28:36] = colour
    return Image.fromarray(pixels), [DetectedObject((28, 28, 36, 36))]


GALLERY = (
    picture(GREEN, RED, BLUE),  # holds the red thing, in a blue frame
    picture(OLIVE, BLUE),  # has no red thing, but some red everywhere
    picture(GREEN, BLUE),
)


@pytest.fixture(scope="module")
def scores(colours):
    image, (thing,) = picture(BLUE, RED)
    query = embed_images(colours, [crop_around(image, thing.box)])[0]
    return lambda mode: [float(some[0] @ query) for some in embed_objects(colours, GALLERY, mode)]


def test_it_finds_the_thing_where_the_mean_of_crops_finds_the_ground(scores):
    mean = scores(Mode(steps=0))
    assert int(np.argmax(mean)) == 1
    found = scores(MODES["paper"])
    assert int(np.argmax(found)) == 0 and found[0] > max(found[1:]) + 0.2, found


def test_on_the_whole_picture_the_thing_is_too_small_for_that(scores):
    """The paper's ablation: native-resolution crops are what finds small things."""
    assert int(np.argmax(scores(MODES["full-image"]))) == 1
