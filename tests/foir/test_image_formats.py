"""AVIF, HEIC, JPEG XL and RAW: real files made by the libraries, and what is said where one is not installed."""

import io
from dataclasses import replace

import numpy as np
import pytest

from foir import decoders, image_formats, images
from foir.errors import BadImage
from tests.conftest import scene
from tests.raw_files import dng

OTHERS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}


def written(kind, **options):
    if kind in OTHERS:
        pytest.importorskip(OTHERS[kind])
    image_formats.pillow_formats()
    out = io.BytesIO()
    scene(3).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["AVIF", *OTHERS])
def test_modern_formats_are_read(kind):
    data = written(kind, quality=95)
    for read in (images.read, decoders.read):
        photo = read(data)
        assert photo.size == (160, 120) and photo.facts.taken is None
        difference = np.abs(np.asarray(photo.image, float) - np.asarray(scene(3), float)).mean()
        assert difference < 6


@pytest.mark.parametrize("kind", ["AVIF", *OTHERS])
def test_modern_formats_that_are_damaged_are_one_sentence(kind):
    data = written(kind)
    for broken in (data[: len(data) // 2], data[:40], data[:60] + bytes(40) + data[100:]):
        try:
            decoders.read(broken)
        except BadImage as error:
            assert str(error).startswith("The upload ") and ". " not in str(error)
    with pytest.raises(BadImage, match="pixels; the limit"):
        decoders.read(data, max_pixels=100)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_preview_of_a_raw_file_is_what_is_seen(orientation, tmp_path):
    pytest.importorskip("rawpy")
    (tmp_path / "photo.dng").write_bytes(dng(scene(4), orientation))
    photo = decoders.read(tmp_path / "photo.dng")
    expected = images.upright(scene(4), orientation)
    assert photo.size == expected.size and photo.orientation == orientation
    assert np.abs(np.asarray(photo.image, float) - np.asarray(expected, float)).mean() < 6
    assert (photo.facts.camera, photo.facts.taken) == ("Maker Model", 1_720_010_096)


def test_a_raw_file_that_is_damaged_is_one_sentence(tmp_path):
    pytest.importorskip("rawpy")
    data = dng(scene(4), 1)
    for number, broken in enumerate((data[:200], data[: len(data) // 3], b"II*\0" + bytes(500))):
        (tmp_path / f"{number}.nef").write_bytes(broken)
        with pytest.raises(BadImage, match=f"^{number}.nef "):
            decoders.read(tmp_path / f"{number}.nef")


@pytest.mark.parametrize(
    ("name", "data", "package"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(40), "pillow-heif"),
        ("a.heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40), "pillow-heif"),
        ("a.jxl", b"\xff\x0a" + bytes(40), "pillow-jxl-plugin"),
        ("a.NEF", b"MM\0*" + bytes(40), "rawpy"),
        ("no-suffix", b"FUJIFILMCCD-RAW " + bytes(40), "rawpy"),
    ],
)
def test_what_needs_a_package_names_it(name, data, package, monkeypatch, tmp_path):
    monkeypatch.setattr(image_formats, "find_spec", lambda module: None)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadImage, match=f"{name} is .*`pip install {package}`"):
        images.read(tmp_path / name)


def test_a_package_that_is_broken_costs_only_its_own_files(monkeypatch):
    def broken():
        raise ImportError("a library is missing")

    heif = replace(image_formats.EXTRAS[0], register=broken, module="PIL")
    monkeypatch.setattr(image_formats, "EXTRAS", (heif,))
    image_formats.pillow_formats.cache_clear()
    try:
        assert not heif.installed and image_formats.pillow_formats() == image_formats.BUILT_IN
        assert images.read(written("AVIF")).size == (160, 120)
        with pytest.raises(BadImage, match="pip install pillow-heif"):
            images.read(b"\0\0\0\x18ftypheic" + bytes(40))
    finally:
        image_formats.pillow_formats.cache_clear()


def test_an_avif_of_another_first_brand_is_no_heic(monkeypatch):
    monkeypatch.setattr(image_formats, "find_spec", lambda module: None)
    image_formats.check_readable(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif" + bytes(40), "a.avif")
    image_formats.check_readable(b"MM\0*" + bytes(40), "scan.tif")
