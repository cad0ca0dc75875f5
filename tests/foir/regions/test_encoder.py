"""Regions of pictures and of queries: which vectors they are, and where their boxes lie."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from foir import BadIndex, Prompt
from foir.patches import rasterise
from foir.regions.encoder import RegionEncoder, check_repeatable, complete
from foir.regions.recipe import RegionRecipe
from foir.regions.views import CORNER, TILES, cut_tiles, place, to_corners, to_pixels
from foir.regions.ways import find_way
from foir.regions.windows import mask_boxes, window_masks
from foir.small_objects import detect
from foir.small_objects.crops import DetectedObject, crop_around, crop_objects
from foir.small_objects.embed import embed_images, embed_objects
from foir.small_objects.mao import MODES
from tests.conftest import scene

EVERYTHING = 256


def encode(toy, images, recipe, **more):
    return RegionEncoder(toy, complete(recipe, toy)).encode(toy.prefix(toy.pixels(images)), **more)


def windows_of(toy, image):
    windows = window_masks(toy.grid)
    masks = torch.from_numpy(windows.reshape(len(windows), -1))
    return find_way("blended").vectors(toy, toy.prefix(toy.pixels([image])), masks, None)[0].numpy()


def test_every_window_keeps_its_box_where_all_are_kept(toy):
    found = encode(toy, [scene(0), scene(1)], RegionRecipe(limit=EVERYTHING))
    boxes = mask_boxes(window_masks(toy.grid))
    for number, regions in enumerate(found):
        np.testing.assert_allclose(regions.boxes / CORNER, boxes, atol=1e-4)
        assert regions.boxes.dtype == np.uint16 and regions.vectors.dtype == np.float32
        assert (regions.vectors * windows_of(toy, scene(number))).sum(1).min() > 1 - 1e-5


def test_few_are_kept_with_boxes_of_windows(toy):
    (regions,) = encode(toy, [scene(0)], RegionRecipe(limit=5))
    assert regions.vectors.shape == (5, 48) and regions.boxes.shape == (5, 4)
    np.testing.assert_allclose(np.linalg.norm(regions.vectors, axis=1), 1, atol=1e-5)
    windows = to_corners(mask_boxes(window_masks(toy.grid)))
    for vector, box in zip(regions.vectors, regions.boxes, strict=True):
        own = windows_of(toy, scene(0))[(windows == box).all(1)]
        assert len(own) and (own @ vector).max() > 0.5


def test_windows_of_tiles_lie_in_their_tiles(toy):
    image = scene(3)
    tiles = cut_tiles(image)
    pixels = torch.stack([toy.pixels(tiles), toy.pixels(cut_tiles(scene(4)))])
    regions, _ = encode(toy, [image, scene(4)], RegionRecipe(views="tiles", limit=EVERYTHING), tiles=pixels)
    count = len(window_masks(toy.grid))
    assert len(regions.vectors) == 5 * count
    assert (regions.vectors[:count] * windows_of(toy, image)).sum(1).min() > 1 - 1e-5
    for number, (tile, frame) in enumerate(zip(tiles, TILES, strict=True), 1):
        part = slice(number * count, (number + 1) * count)
        assert (regions.vectors[part] * windows_of(toy, tile)).sum(1).min() > 1 - 1e-5
        boxes = regions.boxes[part] / CORNER
        assert (boxes[:, :2] >= np.array(frame[:2]) - 1e-4).all() and (boxes[:, 2:] <= np.array(frame[2:]) + 1e-4).all()
        np.testing.assert_allclose(boxes[-1], frame, atol=1e-4)  # the window that is the whole tile
        x0, y0, x1, y1 = (round(edge) for edge in to_pixels(regions.boxes[part][-1], image.size))
        assert image.crop((x0, y0, x1, y1)).tobytes() == tile.tobytes()


def test_tiles_of_the_smallest_pictures_have_pixels():
    for size in ((1, 1), (1, 9), (2, 3)):
        assert all(min(tile.size) >= 1 for tile in cut_tiles(Image.new("RGB", size)))


def test_boxes_are_placed_stored_and_read_back():
    corners = to_corners(place(np.array([[0.0, 0.5, 1.0, 1.0]]), (0.4, 0.0, 1.0, 0.6)))[0]
    assert to_pixels(corners, (200, 100)) == pytest.approx((80, 30, 200, 60), abs=0.01)
    assert to_corners(np.array([[-0.1, 0, 1.2, 1]])).tolist() == [[0, 0, CORNER, CORNER]]


KNOWN = [DetectedObject((10.0, 20.0, 50.0, 60.0)), DetectedObject((90.0, 5.0, 130.0, 100.0))]


def test_crops_are_added_for_known_objects_and_looked_for_elsewhere(toy, monkeypatch):
    monkeypatch.setattr(detect, "load", lambda encoder: lambda image: KNOWN[1:])
    images = [scene(0), scene(1)]
    recipe = RegionRecipe(views="crops", limit=EVERYTHING)
    known, found = encode(toy, images, recipe, objects=[(images[0], KNOWN), (images[1], [])])
    count = len(window_masks(toy.grid))
    assert (len(known.vectors), len(found.vectors)) == (count + 2, count + 1)
    crops = [crop.image for crop in crop_objects(images[0], KNOWN, toy.size)]
    assert (known.vectors[count:] * embed_images(toy, crops).numpy()).sum(1).min() > 1 - 1e-5
    for corners, thing in zip(known.boxes[count:], KNOWN, strict=True):
        assert to_pixels(corners, images[0].size) == pytest.approx(thing.box, abs=2)
    assert to_pixels(found.boxes[-1], images[1].size) == pytest.approx(KNOWN[1].box, abs=2)


def test_a_picture_without_objects_has_no_crops(toy, monkeypatch):
    monkeypatch.setattr(detect, "load", lambda encoder: lambda image: [])
    recipe = RegionRecipe(views="crops", limit=EVERYTHING)
    (regions,) = encode(toy, [scene(0)], recipe, objects=[(scene(0), [])])
    assert len(regions.vectors) == len(window_masks(toy.grid))


def test_mao_is_one_vector_of_the_whole_picture(toy):
    (regions,) = encode(toy, [scene(0)], RegionRecipe(way="mao", limit=1), objects=[(scene(0), KNOWN)])
    (expected,) = embed_objects(toy, [(scene(0), KNOWN)])
    assert regions.vectors.shape == (1, 48) and regions.boxes.tolist() == [[0, 0, CORNER, CORNER]]
    assert float((regions.vectors * expected.numpy()).sum()) > 0.999


def test_what_needs_objects_names_the_detector_and_the_settings(toy, monkeypatch):
    recipe = complete(RegionRecipe(way="mao", limit=1), toy)
    assert recipe.finder == detect.OWL and json.loads(recipe.mode) == MODES["paper"].as_dict
    assert complete(RegionRecipe(), toy) == RegionRecipe()
    check_repeatable(recipe, toy)
    with pytest.raises(BadIndex, match=r"were made with finder@1, not with google/owlv2.*: build it again\.$"):
        check_repeatable(recipe.model_copy(update={"finder": "finder@1"}), toy)
    monkeypatch.setitem(MODES, "paper", replace(MODES["paper"], steps=3))
    with pytest.raises(BadIndex, match=r"with other settings of MaO.*: build it again\.$"):
        check_repeatable(recipe, toy)


@pytest.fixture
def asked(toy):
    prefix = toy.prefix(toy.pixels([scene(0)]))
    return prefix, rasterise(Prompt.box(80, 30, 150, 110), (160, 120), toy.grid)


def test_a_query_is_a_crop_too_where_crops_are_kept_and_only_a_crop_for_mao(toy, asked):
    prefix, mask = asked
    crop = embed_images(toy, [crop_around(scene(0), (80, 30, 150, 110))])
    recipes = [complete(recipe, toy) for recipe in (RegionRecipe(views="crops"), RegionRecipe(way="mao", limit=1))]
    both, alone = (RegionEncoder(toy, recipe).encode_query(scene(0), prefix, mask) for recipe in recipes)
    assert both.shape == (2, 48) and alone.shape == (1, 48)
    np.testing.assert_allclose(both[1:], crop, atol=1e-5)
    np.testing.assert_allclose(alone, crop, atol=1e-5)
