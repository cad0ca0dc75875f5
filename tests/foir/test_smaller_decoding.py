"""Large JPEGs decoded smaller: sizes, orientations, what stays whole, and how little features change."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from foir import decoders, encoders, images
from foir.errors import BadImage
from foir.index import Index
from foir.playroom import compose
from index_build.encoding import LoadedEncoders
from index_build.pipeline import Plan, build
from index_build.ray_executor import RayExecutor, _decode
from index_build.sources.folder import FolderSource
from index_build.update import add
from tests.conftest import scene

ORIENTATION = 0x0112


def saved(image, kind="JPEG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def large(size=(1600, 1200)):
    """A photo's size and noise."""
    pixels = np.asarray(compose("held-out", 3).image.resize(size, Image.Resampling.LANCZOS), np.int16)
    noise = np.random.default_rng(0).normal(0, 6, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "min_side, size",
    [(0, (803, 605)), (606, (803, 605)), (400, (803, 605)), (302, (402, 303)), (100, (201, 152)), (1, (101, 76))],
)
def test_a_jpeg_keeps_as_many_pixels_as_are_needed(min_side, size):
    photo = decoders.read(saved(scene(1).resize((803, 605))), min_side=min_side)
    assert photo.size == size and photo.full_size == (None if size == (803, 605) else (803, 605))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_says_its_upright_size(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = saved(scene(1).resize((800, 600)), exif=exif)
    small, whole = decoders.read(data, min_side=150), decoders.read(data)
    assert small.full_size == whole.size == ((600, 800) if orientation > 4 else (800, 600))
    assert small.size == (whole.size[0] // 4, whole.size[1] // 4)
    assert (small.orientation, small.content) == (whole.orientation, whole.content)
    difference = np.abs(np.asarray(whole.image.resize(small.size), float) - np.asarray(small.image, float))
    assert difference.mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_other_kinds_come_whole(kind):
    photo = decoders.read(saved(scene(1).resize((800, 600)), kind), min_side=50)
    assert photo.size == (800, 600) and photo.full_size is None


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_printed_jpegs_keep_their_colours(mode):
    data = saved(scene(1).resize((800, 600)).convert(mode))
    small, whole = decoders.read(data, min_side=150), decoders.read(data)
    assert small.size == (200, 150) and small.image.mode == "RGB"
    assert np.abs(np.asarray(whole.image.resize((200, 150)), float) - np.asarray(small.image, float)).mean() < 4


def test_the_limit_of_pixels_is_that_of_the_whole_picture():
    with pytest.raises(BadImage, match="the limit is 0 million"):
        images.decode(saved(scene(1).resize((800, 600))), "a.jpg", 400_000, 50)


def test_an_index_of_large_photos_knows_their_sizes_and_has_nearly_the_same_vectors(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(saved(large(), quality=92))
    build(Plan(tmp_path / "photos", tmp_path / "index", "mini", device="cpu"))
    index = Index.open(tmp_path / "index")
    item = index.item(0)
    assert (item.width, item.height) == (1600, 1200)
    with Image.open(index.thumb(item)) as thumb:
        assert thumb.size == (320, 240)
    mini = encoders.load("mini", device="cpu")
    whole = mini.finish(mini.prefix(mini.pixels([images.read(tmp_path / "photos" / "a.jpg").image]))).vectors[0]
    assert float(index.space().shards[0][0] @ whole.numpy()) > 0.9995
    (tmp_path / "photos" / "b.jpg").write_bytes(saved(large((1200, 1600)), quality=92))
    add(tmp_path / "index", [tmp_path / "photos" / "b.jpg"], device="cpu")
    assert {(item.width, item.height) for item in Index.open(tmp_path / "index").items()} == {
        (1600, 1200),
        (1200, 1600),
    }


@pytest.mark.parametrize("thumb_side, needed", [(320, 320), (200, 224)])
def test_builds_ask_for_as_many_pixels_as_encoder_and_thumbnail_need(tmp_path, toy, monkeypatch, thumb_side, needed):
    (tmp_path / "photos").mkdir()
    scene(1).save(tmp_path / "photos" / "a.png")
    asked, real = [], decoders.read

    def read(source, **limits):
        asked.append(limits["min_side"])
        return real(source, **limits)

    monkeypatch.setattr(decoders, "read", read)
    build(Plan(tmp_path / "photos", tmp_path / "index", "toy", device="cpu", regions=None, thumb_side=thumb_side))
    assert asked == [needed]
    loaded = LoadedEncoders({"image": toy})
    rows = RayExecutor("local", lambda: loaded, tmp_path / "index", thumb_side)
    assert rows.min_side == needed
    chunk = FolderSource(tmp_path / "photos", tmp_path / "index").chunks(4)[0]
    list(_decode(loaded.preprocess, thumb_side, rows.min_side, {"chunk": pickle.dumps(chunk)}))
    assert asked[1:] == [needed]


def test_views_at_a_pictures_own_resolution_get_all_of_it(toy):
    from foir.regions.recipe import RegionRecipe

    sides = [
        LoadedEncoders({"image": toy}, RegionRecipe(views=views)).min_side for views in ("whole", "tiles", "crops")
    ]
    assert sides == [2 * toy.size, 0, 0]
