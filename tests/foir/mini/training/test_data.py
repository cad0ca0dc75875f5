"""Training data: Flickr8k's layout, collages."""

import numpy as np
import pytest
from PIL import Image

from foir import Unavailable
from foir.mini.training import data


def test_photos_are_read_as_flickr8k_lays_them_out(flickr):
    photos = data.Photos.read(flickr)
    assert {name: rows.tolist() for name, rows in photos.rows.items()} == {
        "train": list(range(7)), "dev": [8, 9], "test": [10, 11], "rest": [7]
    }  # fmt: skip
    assert photos.captions[3][1] == "thing 3, number 1 of a dog ."
    (flickr / "captions.txt").unlink()
    with pytest.raises(Unavailable, match="put it there"):
        data.Photos.read(flickr)


def test_a_patchwork_shows_the_photos_it_names(flickr):
    photos = data.Photos.read(flickr)
    rows = np.arange(7)
    for number in range(6):
        picture, boxes, what = data._collage(photos, rows, number)
        image = picture()
        assert image.size == (224, 224) and len(boxes) == len(what) in (4, 6)
        assert len(set(what)) == len(what) and set(what) <= set(rows.tolist())
        for (x0, y0, x1, y1), row in zip(boxes, what, strict=True):
            inset = data.INSET
            cell = image.crop((int(x0) - inset, int(y0) - inset, int(x1) + inset, int(y1) + inset))
            photo = photos.image(row).resize(cell.size, Image.Resampling.BICUBIC)
            mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            apart = [np.abs(np.asarray(cell, float) - np.asarray(p, float)).mean() for p in (photo, mirrored)]
            assert min(apart) == 0
            assert 0 <= x0 < x1 <= 224 and 0 <= y0 < y1 <= 224
