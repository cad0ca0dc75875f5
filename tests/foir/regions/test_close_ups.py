"""Close-ups: their frames, masks and the one vector that they make with the picture."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt
from foir.regions.close_ups import CloseUp, frame, take_close_ups
from foir.regions.encoder import RegionEncoder
from foir.regions.recipe import RegionRecipe
from foir.regions.ways import find_way
from tests.conftest import scene

GRID, SIZE = (8, 8), (160, 120)


def marked(*box):
    return rasterise(Prompt.box(*box), SIZE, GRID)


@pytest.mark.parametrize(
    "box, zoom, corners",
    [
        ((70, 50, 90, 70), 0.5, (40, 30, 120, 90)),  # around its middle, in the picture's shape
        ((0, 0, 20, 20), 0.5, (0, 0, 80, 60)),  # moved inside
        ((150, 110, 160, 120), 0.5, (80, 60, 160, 120)),
        ((10, 50, 150, 70), 0.5, (10, 8, 150, 113)),  # as near as the thing allows
        ((0, 0, 160, 120), 0.5, (0, 0, 160, 120)),
        ((0, 0, 1, 120), 0.1, (0, 0, 160, 120)),
    ],
)
def test_a_close_up_holds_the_thing_and_keeps_the_pictures_shape(box, zoom, corners):
    rows, cols = frame(marked(*box), zoom)
    assert (cols.start, rows.start, cols.stop, rows.stop) == corners


def test_every_box_of_every_picture_lies_in_its_close_up():
    random = np.random.default_rng(0)
    for _ in range(300):
        size = (int(random.integers(1, 200)), int(random.integers(1, 200)))
        x, y = (np.sort(random.uniform(0, side, 2)) for side in size)
        prompt = Prompt.box(x[0], y[0], x[1] + 0.01, y[1] + 0.01).fit(size)
        mask = rasterise(prompt, size, GRID)
        zoom = float(random.uniform(0.01, 1))
        rows, cols = frame(mask, zoom)
        x0, y0, x1, y1 = mask.box
        assert 0 <= cols.start <= x0 and x1 <= cols.stop <= size[0]
        assert 0 <= rows.start <= y0 and y1 <= rows.stop <= size[1]
        assert mask.cut((rows, cols)).pixels.sum() == mask.pixels.sum()


def test_the_mask_follows_into_the_close_up():
    picture = Image.fromarray(np.arange(160 * 120 * 3, dtype=np.uint32).astype(np.uint8).reshape(120, 160, 3))
    ((near, mask),) = take_close_ups(picture, marked(70, 50, 90, 70), [CloseUp(0.5)])
    assert near.tobytes() == picture.crop((40, 30, 120, 90)).tobytes()
    inside = rasterise(Prompt.box(30, 20, 50, 40), (80, 60), GRID)
    assert (mask.pixels == inside.pixels).all() and (mask.patches == inside.patches).all()
    ((turned, mask),) = take_close_ups(picture, marked(70, 50, 85, 70), [CloseUp(0.5, mirrored=True)])
    assert turned.tobytes() == ImageOps.mirror(picture.crop((38, 30, 118, 90))).tobytes()
    inside = rasterise(Prompt.box(80 - 47, 20, 80 - 32, 40), (80, 60), GRID)
    assert (mask.pixels == inside.pixels).all() and (mask.patches == inside.patches).all()


def test_a_thing_that_fills_the_picture_is_seen_as_it_is():
    picture, everything = Image.new("RGB", SIZE, "teal"), PatchMask.everything(SIZE, GRID)
    for near, mask in take_close_ups(picture, everything):
        assert near.size == SIZE and mask.patches.all()


def test_a_query_is_the_mean_of_all_its_views(toy):
    image = scene(0)
    mask = rasterise(Prompt.box(80, 30, 150, 110), image.size, toy.grid)
    prefix, way = toy.prefix(toy.pixels([image])), find_way("blended")
    views = [
        way.vectors(toy, toy.prefix(toy.pixels([view])), torch.from_numpy(part.patches.reshape(1, -1)), None)[0, 0]
        for view, part in [(image, mask), *take_close_ups(image, mask)]
    ]
    found = RegionEncoder(toy, RegionRecipe()).encode_query(image, prefix, mask)
    assert found.shape == (1, 48) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], functional.normalize(torch.stack(views).sum(0), dim=0), atol=1e-5)
