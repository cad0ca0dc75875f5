"""Crops around objects, and one vector for a picture of any number of them."""

import numpy as np
import pytest
import torch

from foir import encoders
from foir.small_objects import embed as module
from foir.small_objects.crops import DetectedObject, crop_objects, frame
from foir.small_objects.embed import embed_objects
from tests.conftest import scene


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((300, 200, 320, 220), (198, 98, 422, 322)),  # small: the encoder's own resolution, in the middle
        ((0, 0, 10, 10), (0, 0, 224, 224)),  # moved, not padded
        ((630, 470, 640, 480), (416, 256, 640, 480)),
        ((100, 100, 500, 400), (100, 50, 500, 450)),  # large: as long as its box
        ((-50, 100, 700, 300), (0, 0, 640, 480)),  # longer than the picture: cut to it
    ],
)
def test_frames_of_a_picture_of_640_by_480(box, expected):
    assert frame(box, (640, 480), 224) == expected


def test_a_picture_smaller_than_the_encoder_is_taken_whole():
    assert frame((10, 10, 20, 20), (100, 80), 224) == (0, 0, 100, 80)


def test_masks_lie_on_their_things():
    image = scene(0, (640, 480))
    (one,) = crop_objects(image, [DetectedObject((300, 200, 340, 260))], 224)
    x0, y0, _, _ = one.frame
    rows, columns = np.flatnonzero(one.mask.any(1)), np.flatnonzero(one.mask.any(0))
    assert (columns[0] + x0, rows[0] + y0, columns[-1] + 1 + x0, rows[-1] + 1 + y0) == (300, 200, 340, 260)
    assert one.image.size == (224, 224)


def test_a_mask_says_more_than_its_box():
    mask = np.zeros((480, 640), bool)
    mask[100:110, 600:640] = True
    (one,) = crop_objects(scene(0, (640, 480)), [DetectedObject((0, 0, 640, 480), mask)], 224)
    assert one.frame == (416, 0, 640, 224)
    assert one.mask.sum() == 400


def test_what_has_no_pixel_in_the_picture_is_left_out_and_what_is_thinner_than_one_is_kept():
    image = scene(0, (1000, 1000))
    outside, nothing = DetectedObject((2000, 10, 2010, 20)), DetectedObject((5, 5, 5, 5))
    assert (
        crop_objects(image, [outside, nothing, DetectedObject((0, 0, 9, 9), np.zeros((1000, 1000), bool))], 112) == []
    )
    thin = np.zeros((1000, 1000), bool)
    thin[:, 500] = True
    (one,) = crop_objects(image, [DetectedObject((500, 0, 501, 1000), thin)], 112)
    assert one.mask.any()


def test_a_picture_without_objects_gets_its_plain_feature(toy):
    images = [scene(0), scene(1)]
    made = embed_objects(toy, [(images[0], []), (images[1], [DetectedObject((500, 500, 510, 510))])])
    torch.testing.assert_close(torch.cat(made), toy.finish(toy.prefix(toy.pixels(images))).vectors.clone())


def test_one_object_over_everything_and_sixty_objects(toy):
    whole, many = (
        DetectedObject((0, 0, 160, 120)),
        [DetectedObject((x, y, x + 9, y + 9)) for x in range(0, 150, 15) for y in range(0, 90, 15)],
    )
    assert len(many) == 60
    made = torch.cat(embed_objects(toy, [(scene(0), [whole]), (scene(1), many), (scene(2), [])]))
    assert made.shape == (3, 48)
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(3))


def test_pictures_keep_their_order_in_any_grouping(toy, monkeypatch):
    """A grouping changes nothing but roundings. Eighty steps make much of them: a map's slope jumps at its kinks.

    Float64 rounds 2^29 times finer: what in float32 grows to 2, as far as unit vectors can be apart, is 4e-9 there; to
    which plain features, float32 in the end, add a rounding of 6e-8. In float32, as pictures are really seen, a vector
    must be nearer to its picture's own than half the way from there to any other's.
    """
    pictures = [(scene(i), [DetectedObject((20 + 9 * i, 20, 60 + 9 * i, 60))] * (i % 3)) for i in range(5)]
    both = encoders.load("toy", device="cpu").to("cpu", torch.float64), toy
    alone = [torch.cat([embed_objects(encoder, [picture])[0] for picture in pictures]) for encoder in both]
    for crops in (1, 3, 64):  # each picture alone; two of them, and one; all
        monkeypatch.setattr(module, "BATCH", crops)
        together = [torch.cat(embed_objects(encoder, pictures)) for encoder in both]
        torch.testing.assert_close(together[0], alone[0], rtol=0, atol=1e-7)
        assert (together[1] - alone[1]).norm(dim=-1).max() < torch.pdist(alone[1]).min() / 2, crops
