"""A folder with every format, orientation, bad file and a video: indexed, searched, renamed, exported."""

import json
from importlib.util import find_spec

import pytest
from PIL import Image

from foir import Index, image_formats
from foir.cli.main import main
from index_build.pipeline import Plan, build
from index_build.update import update
from tests.conftest import scene
from tests.index_build.test_videos import film
from tests.raw_files import dng

KINDS = {"png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "avif": "AVIF"}
EXTRAS = {"heic": ("HEIF", "pillow_heif"), "jxl": ("JXL", "pillow_jxl")}


@pytest.fixture
def everything(tmp_path):
    """The folder, the names that can be read here, and those that cannot."""
    folder = tmp_path / "photos"
    good: list[str] = []
    bad: list[str] = []
    folder.mkdir()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        scene(orientation).save(folder / f"turned-{orientation}.jpg", exif=exif, quality=95)
        good.append(f"turned-{orientation}.jpg")
    image_formats.pillow_formats()
    kinds = KINDS | {suffix: kind for suffix, (kind, module) in EXTRAS.items() if find_spec(module)}
    for number, (suffix, kind) in enumerate(kinds.items(), 20):
        scene(number).save(folder / f"photo.{suffix}", kind)
        good.append(f"photo.{suffix}")
    (folder / "photo.dng").write_bytes(dng(scene(40), 1))
    (good if find_spec("rawpy") else bad).append("photo.dng")
    if find_spec("av"):
        film(folder / "film.mp4", [50, 51])
        good += ["film.mp4#t=0.000", "film.mp4#t=3.000"]
    for suffix in (*KINDS, *EXTRAS, "jpg", "nef", "mov"):
        (folder / f"bad.{suffix}").write_bytes(b"junk" * 20)
        bad.append(f"bad.{suffix}")
    return folder, good, bad


def test_a_folder_with_everything(everything, tmp_path, capsys):
    folder, good, bad = everything
    done = build(Plan(folder, tmp_path / "index", "toy", device="cpu"))
    before = {item.key: item.id for item in Index.open(tmp_path / "index").items()}
    assert sorted(before) == sorted(good)
    assert sorted(entry["file"] for entry in done.rejected) == sorted(bad)
    assert all(entry["reason"].endswith(".") for entry in done.rejected)

    found = ["search", str(tmp_path / "index"), str(folder / "photo.avif"), "--box", "20,15,80,75", "--k", "100"]
    assert main([*found, "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert hits[0]["file"] == "photo.avif" and len(hits) == len(good)
    assert main(["export", *found[1:], "--out", str(tmp_path / "links")]) == 0
    assert len(list((tmp_path / "links").iterdir())) == len(good)
    assert main(["export", *found[1:], "--out", str(tmp_path / "sheet.jpg")]) == 0

    (folder / "moved").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / "moved" / f"new-{path.name}")
    news = update(tmp_path / "index", device="cpu")
    assert (len(news.moved), news.added, news.reencoded, news.removed) == (len(good), (), (), ())
    after = {item.key: item.id for item in Index.open(tmp_path / "index").items()}
    assert after == {f"moved/new-{key}": id for key, id in before.items()}
