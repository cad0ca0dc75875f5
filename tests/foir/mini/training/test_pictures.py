"""Pictures to train on: what is known of the things on them follows every crop and every mirror."""

import numpy as np
import pytest
import torch
from PIL import Image

from foir import Prompt, Unavailable
from foir.mini.training import collages, photos, pictures
from foir.mini.training.pictures import Pictures, Things, box_areas
from foir.patches import rasterise
from foir.playroom import sprites


def rectangle(x0, y0, x1, y1):
    """A white thing on black."""
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    pixels[0, y0:y1, x0:x1] = 255
    boxes = np.array([[x0, y0, x1, y1]], np.float32) / 224
    return Pictures(pixels, (Things(boxes, np.array([3]), box_areas(boxes)),))


@pytest.mark.parametrize("crops", [0.0, 1.0])
def test_boxes_and_areas_stay_on_their_things(crops):
    kept = 0
    for seed in range(12):
        drawn = pictures.draw(rectangle(40, 90, 100, 130), np.array([0]), np.random.default_rng(seed), crops=crops)
        white = (drawn.pixels[0] * pictures.STD[:, None, None] + pictures.MEAN[:, None, None])[0] > 0.5
        (boxes, labels, areas) = drawn.things[0]
        if not len(labels):  # too little of it is left
            continue
        kept += 1
        rows, cols = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
        seen = np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1])
        np.testing.assert_allclose(boxes[0] * 224, seen, atol=1.5)
        assert areas[0].reshape(16, 16)[rows[len(rows) // 2] // 14, cols[len(cols) // 2] // 14]
        assert areas.sum() <= box_areas(boxes).sum() + 1
    assert kept >= 6 and (crops or kept == 12)


@pytest.mark.parametrize("box", [(0, 0, 224, 224), (14, 28, 42, 43), (100.5, 3, 101, 220)])
def test_areas_of_boxes_are_those_of_prompts(box):
    mask = rasterise(Prompt.box(*box), (224, 224), (16, 16))
    np.testing.assert_array_equal(box_areas(np.array([box], np.float32) / 224)[0], mask.patches.reshape(-1))


def test_scenes_are_composed_once_and_hold_no_toy_that_is_held_out(tmp_path, monkeypatch):
    made = pictures.scenes(3, tmp_path)
    monkeypatch.setattr(pictures, "compose", None)
    again = pictures.scenes(3, tmp_path)
    np.testing.assert_array_equal(made.pixels, again.pixels)
    assert again.captions == made.captions and len(made.captions) == 3
    for things in again.things:
        assert not any(sprites()[label].held_out for label in things.labels)
        assert things.areas.any(1).all() and (things.areas <= box_areas(things.boxes)).all()


def test_a_collage_shows_its_photos_where_it_says():
    colours = np.arange(20, dtype=np.uint8)[:, None, None, None] * 12
    shown = Pictures(np.broadcast_to(colours, (20, 224, 224, 3)), ())
    drawn = collages.collages(shown, 5, np.random.default_rng(0))
    values = drawn.pixels * pictures.STD[:, None, None] + pictures.MEAN[:, None, None]
    for picture, (boxes, labels, _) in zip(values, drawn.things, strict=True):
        assert len(labels) in (4, 6, 9) and len(set(labels.tolist())) == len(labels)
        for (x0, y0, x1, y1), label in zip((boxes * 224).round().astype(int), labels, strict=True):
            cell = picture[:, y0:y1, x0:x1] * 255
            torch.testing.assert_close(cell, torch.full_like(cell, float(12 * label)), atol=0.6, rtol=0)


def test_boxed_photos_are_those_of_the_training_split(voc, tmp_path):
    read = photos.BoxedPhotos.read(voc)
    assert read.classes == ("dog", "potted plant")
    assert 0 < len(read.files) < 12  # the others are for choosing and reporting
    assert len(read.pictures(tmp_path).pixels) == len(read.files)
    for things in read.things:
        np.testing.assert_allclose(things.boxes, [[0.25, 0.1, 0.75, 0.9]], atol=1e-6)
    (voc / "instances.json").write_text("{}")
    with pytest.raises(Unavailable, match="voc12_part"):
        photos.BoxedPhotos.read(voc)


def test_photos_are_read_as_flickr8k_lays_them_out(flickr, tmp_path):
    read = photos.Photos.read(flickr)
    assert {name: rows.tolist() for name, rows in read.rows.items()} == {
        "train": list(range(7)), "dev": [8, 9], "test": [10, 11], "rest": [7]
    }  # fmt: skip
    assert read.captions[3][1] == "thing 3, number 1 of a dog ."
    pixels = photos.flickr_pictures(read, np.array([2, 5]), tmp_path).pixels
    np.testing.assert_array_equal(pixels[1], np.asarray(read.image(5).resize((224, 224), Image.Resampling.BICUBIC)))
    (flickr / "captions.txt").unlink()
    with pytest.raises(Unavailable, match="put it there"):
        photos.Photos.read(flickr)
