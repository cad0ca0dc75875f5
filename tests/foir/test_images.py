"""Real picture files, odd and damaged, through the one door for them."""

import io
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile, TiffImagePlugin

from foir import images
from foir.errors import BadImage, FoirError
from tests.hostile_images import gif_of_frames, jpeg_of_scans, tiff_of_frames

ORIENTATION = 0x0112
WHITE, BLACK, RED, LIME, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)

UNREADABLE = "is not a picture foir can read"
DAMAGED = "is damaged or incomplete"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def grey(values: list[Any], dtype: Any) -> Image.Image:
    return Image.fromarray(np.array([values], dtype))


def row(mode: str, pixels: list[Any]) -> Image.Image:
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


def noise(size: tuple[int, int] = (64, 48), seed: int = 3) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))


def palette() -> Image.Image:
    image = row("P", [0, 1, 2])
    image.putpalette([*RED, *LIME, *BLUE])
    return image


def frames(kind: str, **options: Any) -> bytes:
    pages = [Image.new("RGB", (16, 16), colour) for colour in (RED, LIME, BLUE)]
    return save(pages[0], kind, save_all=True, append_images=pages[1:], **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def rgb16_png(pixels: list[tuple[int, int, int]]) -> bytes:
    line = b"\0" + np.array(pixels, ">u2").tobytes()
    return png(len(pixels), 1, chunk(b"IDAT", zlib.compress(line)), bits=16)


def exif_jpeg(payload: bytes) -> bytes:
    return save(Image.new("RGB", (16, 16), RED), "JPEG", exif=b"Exif\0\0" + payload)


def flip(data: bytes, *at: int) -> bytes:
    changed = bytearray(data)
    for i in at:
        changed[i] ^= 0xFF
    return bytes(changed)


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (16, 16)) -> np.ndarray:
    return np.full((size[1], size[0], 3), colour, np.uint8)


def greys(*values: int) -> list[list[tuple[int, int, int]]]:
    return [[(v, v, v) for v in values]]


GOOD: dict[str, tuple[str, Callable[[], bytes], Any]] = {
    "grey-jpeg": ("a.jpg", lambda: save(Image.new("L", (16, 16), 77), "JPEG"), flat((77, 77, 77))),
    "cmyk-jpeg": ("a.jpg", lambda: save(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), flat(RED)),
    "progressive": ("a.jpg", lambda: save(Image.new("RGB", (16, 16), BLUE), "JPEG", progressive=True), flat(BLUE)),
    "jpeg-named-png": ("a.png", lambda: save(Image.new("RGB", (16, 16), RED), "JPEG"), flat(RED)),
    "no-suffix": ("picture", lambda: save(row("RGB", [RED, BLUE]), "PNG"), [[RED, BLUE]]),
    "trailing-zip": ("a.png", lambda: save(row("RGB", [RED, BLUE]), "PNG") + b"PK\x03\x04" * 99, [[RED, BLUE]]),
    "mpo": ("a.mpo", lambda: frames("MPO"), flat(RED)),
    "png-16bit": ("a.png", lambda: save(grey([0, 257, 32768, 65535], np.uint16), "PNG"), greys(0, 1, 128, 255)),
    "png-16bit-dark": ("a.png", lambda: save(grey([0, 300, 2570], np.uint16), "PNG"), greys(0, 1, 10)),
    "png-rgb-16bit": ("a.png", lambda: rgb16_png([(0, 32896, 65535), (257, 0, 514)]), [[(0, 128, 255), (1, 0, 2)]]),
    "tiff-16bit": ("a.tif", lambda: save(grey([0, 25700, 65535], np.uint16), "TIFF"), greys(0, 100, 255)),
    "tiff-16bit-motorola": ("a.tif", lambda: save(grey([0, 25700, 65535], ">u2"), "TIFF"), greys(0, 100, 255)),
    "tiff-float-unit": ("a.tif", lambda: save(grey([0, 0.2, 0.5, 1], np.float32), "TIFF"), greys(0, 51, 128, 255)),
    "tiff-float-half-range": ("a.tif", lambda: save(grey([0.2, 0.4], np.float32), "TIFF"), greys(51, 102)),
    "tiff-float-bytes": ("a.tif", lambda: save(grey([0, 77, 200], np.float32), "TIFF"), greys(0, 77, 200)),
    "tiff-float-large": ("a.tif", lambda: save(grey([-1e6, 0, 3e6], np.float32), "TIFF"), greys(0, 64, 255)),
    "tiff-float-nan": ("a.tif", lambda: save(grey([0, np.nan, 1500, 3000], np.float32), "TIFF"), greys(0, 0, 128, 255)),
    "tiff-float-all-nan": ("a.tif", lambda: save(grey([np.nan, np.nan], np.float32), "TIFF"), greys(0, 0)),
    "tiff-float-flat": ("a.tif", lambda: save(grey([500, 500], np.float32), "TIFF"), greys(0, 0)),
    "tiff-int32": ("a.tif", lambda: save(grey([-(2**31), 0, 2**31 - 1], np.int32), "TIFF"), greys(0, 128, 255)),
    "tiff-int32-bytes": ("a.tif", lambda: save(grey([0, 100, 255], np.int32), "TIFF"), greys(0, 100, 255)),
    "tiff-1bit": ("a.tif", lambda: save(row("1", [0, 255, 0]), "TIFF"), greys(0, 255, 0)),
    "png-1bit": ("a.png", lambda: save(row("1", [0, 255, 0]), "PNG"), greys(0, 255, 0)),
    "palette-one-clear": ("a.png", lambda: save(palette(), "PNG", transparency=1), [[RED, WHITE, BLUE]]),
    "palette-half-clear": (
        "a.png",
        lambda: save(palette(), "PNG", transparency=bytes([255, 128, 0])),
        [[RED, (127, 255, 127), WHITE]],
    ),
    "grey-alpha": ("a.png", lambda: save(row("LA", [(0, 255), (0, 0), (0, 128)]), "PNG"), greys(0, 255, 127)),
    "rgba": (
        "a.png",
        lambda: save(row("RGBA", [(*RED, 255), (*RED, 0), (*BLACK, 51)]), "PNG"),
        [[RED, WHITE, (204, 204, 204)]],
    ),
    "rgb-trns": (
        "a.png",
        lambda: save(row("RGB", [(10, 20, 30), (40, 50, 60)]), "PNG", transparency=(10, 20, 30)),
        [[WHITE, (40, 50, 60)]],
    ),
    "grey-trns": ("a.png", lambda: save(row("L", [10, 40]), "PNG", transparency=10), greys(255, 40)),
    "gif-clear": ("a.gif", lambda: save(palette(), "GIF", transparency=2), [[RED, LIME, WHITE]]),
    "webp-alpha": (
        "a.webp",
        lambda: save(row("RGBA", [(*RED, 255), (*RED, 0)]), "WEBP", lossless=True, exact=True),
        [[RED, WHITE]],
    ),
    "bmp": ("a.bmp", lambda: save(row("RGB", [RED, LIME, (1, 2, 3)]), "BMP"), [[RED, LIME, (1, 2, 3)]]),
    "one-pixel": ("a.png", lambda: save(row("RGB", [(1, 2, 3)]), "PNG"), [[(1, 2, 3)]]),
    "one-wide": (
        "a.webp",
        lambda: save(Image.new("RGB", (1, 5000), (7, 8, 9)), "WEBP", lossless=True),
        flat((7, 8, 9), (1, 5000)),
    ),
    "exif-cut": ("a.jpg", lambda: exif_jpeg(b"II*\0\xff\xff\xff\xff"), flat(RED)),
    "exif-garbage": ("a.jpg", lambda: exif_jpeg(b"no TIFF header at all"), flat(RED)),
    "exif-garbage-png": (
        "a.png",
        lambda: save(row("RGB", [RED, BLUE]), "PNG", exif=b"no TIFF header at all"),
        [[RED, BLUE]],
    ),
    "exif-garbage-webp": (
        "a.webp",
        lambda: save(row("RGB", [RED, BLUE]), "WEBP", lossless=True, exif=b"no TIFF header at all"),
        [[RED, BLUE]],
    ),
    "exif-empty": ("a.jpg", lambda: exif_jpeg(b""), flat(RED)),
    "exif-text-orientation": (
        "a.jpg",
        lambda: exif_jpeg(b"II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, ORIENTATION, 2, 2, b"6\0\0\0", 0)),
        flat(RED),
    ),
}


@pytest.mark.parametrize(("name", "make", "pixels"), GOOD.values(), ids=GOOD.keys())
def test_odd_but_good_picture_is_read_to_these_pixels(tmp_path, name, make, pixels):
    path = tmp_path / name
    path.write_bytes(make())
    photo = images.read(path)
    expected = np.array(pixels)
    assert photo.image.mode == "RGB"
    assert photo.size == (expected.shape[1], expected.shape[0])
    slack = 2 if path.read_bytes()[:2] == b"\xff\xd8" else 0
    assert np.abs(np.asarray(photo.image).astype(int) - expected).max() <= slack
    assert photo.orientation == 1
    assert photo.notes == ()


FRAMES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gif": ("a.gif", lambda: frames("GIF")),
    "png": ("a.png", lambda: frames("PNG")),
    "webp": ("a.webp", lambda: frames("WEBP", lossless=True)),
    "tiff": ("a.tif", lambda: frames("TIFF")),
    "tiff-lzw": ("a.tif", lambda: frames("TIFF", compression="tiff_lzw")),
}


@pytest.mark.parametrize(("name", "make"), FRAMES.values(), ids=FRAMES.keys())
def test_first_of_several_frames_is_used_and_a_note_says_so(tmp_path, name, make):
    path = tmp_path / name
    path.write_bytes(make())
    photo = images.read(path)
    assert np.array_equal(np.asarray(photo.image), flat(RED))
    assert photo.notes == ("Only the first frame is used.",)


def test_first_page_counts_when_pages_differ_in_size_and_mode(tmp_path):
    path = tmp_path / "pages.tif"
    row("RGB", [RED, LIME]).save(path, save_all=True, append_images=[Image.new("L", (30, 40), 9)])
    photo = images.read(path)
    assert np.array_equal(np.asarray(photo.image), [[RED, LIME]])
    assert photo.notes == ("Only the first frame is used.",)


def corners() -> np.ndarray:
    """A grey picture, 48 x 32, with four corner blocks of different colours."""
    picture = flat((128, 128, 128), (48, 32))
    picture[:8, :8], picture[:8, -8:], picture[-8:, :8], picture[-8:, -8:] = RED, LIME, BLUE, WHITE
    return picture


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels in file order, from what the EXIF standard says of the stored row 0 and column 0."""
    turned = upright.swapaxes(0, 1)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: turned,
        6: turned[::-1],
        7: turned[::-1, ::-1],
        8: turned[:, ::-1],
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("MPO", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
    ids=["jpeg", "mpo", "png", "webp", "tiff", "tiff-lzw"],
)
def test_every_exif_orientation_comes_out_upright(tmp_path, kind, options, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "turned"
    path.write_bytes(save(Image.fromarray(as_stored(corners(), orientation).copy()), kind, exif=exif, **options))
    photo = images.read(path)
    assert photo.orientation == orientation
    assert photo.size == (48, 32)
    slack = 12 if kind in ("JPEG", "MPO") else 0
    assert np.abs(np.asarray(photo.image).astype(int) - corners()).max() <= slack


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientation_outside_1_to_8_leaves_the_picture_as_stored(tmp_path, value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    path = tmp_path / "a.png"
    Image.fromarray(corners()).save(path, exif=exif)
    photo = images.read(path)
    assert photo.orientation == 1
    assert np.array_equal(np.asarray(photo.image), corners())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_turns_a_mask_like_its_picture(orientation):
    mask = np.zeros((3, 5), bool)
    mask[0, 1] = mask[2, 4] = mask[1, 0] = True
    turned = images.upright(Image.fromarray(as_stored(mask, orientation).copy()), orientation)
    assert np.array_equal(np.asarray(turned), mask)


def refusal(path: Path, **limits: int) -> str:
    with pytest.raises(BadImage) as caught:
        images.read(path, **limits)
    text = str(caught.value)
    assert_one_sentence(text, path.name)
    return text


def assert_one_sentence(text: str, name: str) -> None:
    assert text.startswith(f"{name} ")
    assert text.isprintable()
    assert text.endswith(".")
    assert ". " not in text


BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "empty": ("a.jpg", lambda: b"", "is empty"),
    "one-byte": ("a.jpg", lambda: b"\xff", UNREADABLE),
    "zeros": ("a.png", lambda: bytes(4096), UNREADABLE),
    "random": ("a.jpg", lambda: np.random.default_rng(5).bytes(5000), UNREADABLE),
    "text": ("notes.txt", lambda: b"only words\n" * 30, UNREADABLE),
    "html-named-jpg": ("page.jpg", lambda: b"<!doctype html><html><body>404</body></html>", UNREADABLE),
    "svg": ("a.svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', UNREADABLE),
    "pdf": ("a.pdf", lambda: save(noise(), "PDF"), UNREADABLE),
    "eps": ("a.eps", lambda: save(noise(), "EPS"), UNREADABLE),
    "ico": ("a.ico", lambda: save(noise((32, 32)), "ICO"), UNREADABLE),
    "ppm": ("a.ppm", lambda: save(noise(), "PPM"), UNREADABLE),
    "ppm-named-png": ("a.png", lambda: save(noise(), "PPM"), UNREADABLE),
    "tga": ("a.tga", lambda: save(noise(), "TGA"), UNREADABLE),
    "jpeg-half": ("a.jpg", lambda: cut(save(noise(), "JPEG"), 0.5), DAMAGED),
    "jpeg-nearly-whole": ("a.jpg", lambda: cut(save(noise(), "JPEG"), 0.97), DAMAGED),
    "progressive-half": ("a.jpg", lambda: cut(save(noise(), "JPEG", progressive=True), 0.5), DAMAGED),
    "png-half": ("a.png", lambda: cut(save(noise(), "PNG"), 0.5), DAMAGED),
    "png-nearly-whole": ("a.png", lambda: cut(save(noise(), "PNG"), 0.97), DAMAGED),
    "gif-half": ("a.gif", lambda: cut(save(noise(), "GIF"), 0.5), DAMAGED),
    "webp-half": ("a.webp", lambda: cut(save(noise(), "WEBP"), 0.5), DAMAGED),
    "webp-lossless-half": ("a.webp", lambda: cut(save(noise(), "WEBP", lossless=True), 0.5), DAMAGED),
    "bmp-half": ("a.bmp", lambda: cut(save(noise(), "BMP"), 0.5), DAMAGED),
    "tiff-half": ("a.tif", lambda: cut(save(noise(), "TIFF"), 0.5), DAMAGED),
    "tiff-lzw-half": ("a.tif", lambda: cut(save(noise(), "TIFF", compression="tiff_lzw"), 0.5), UNREADABLE),
    "png-flip-early": ("a.png", lambda: flip(save(noise(), "PNG"), 60), DAMAGED),
    "png-flip-middle": ("a.png", lambda: flip(save(noise(), "PNG"), 3000, 3001), DAMAGED),
    "png-flip-tail": ("a.png", lambda: flip(save(noise(), "PNG"), -25), DAMAGED),
    "png-flip-header": ("a.png", lambda: flip(save(noise(), "PNG"), 17), UNREADABLE),
    "png-no-pixels": ("a.png", lambda: png(8, 8), DAMAGED),
    "png-no-width": ("a.png", lambda: png(0, 8, chunk(b"IDAT", zlib.compress(b"\0" * 8))), UNREADABLE),
    "png-text-bomb": (
        "a.png",
        lambda: png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 * 2**20), 1))),
        DAMAGED,
    ),
    "jpeg-header": ("a.jpg", lambda: save(noise(), "JPEG")[:20], UNREADABLE),
    "png-signature": ("a.png", lambda: save(noise(), "PNG")[:8], UNREADABLE),
    "png-header": ("a.png", lambda: save(noise(), "PNG")[:33], UNREADABLE),
    "gif-header": ("a.gif", lambda: save(noise(), "GIF")[:13], UNREADABLE),
    "webp-header": ("a.webp", lambda: save(noise(), "WEBP")[:20], DAMAGED),
    "bmp-header": ("a.bmp", lambda: save(noise(), "BMP")[:54], DAMAGED),
    "tiff-header": ("a.tif", lambda: save(noise(), "TIFF")[:8], UNREADABLE),
}


@pytest.mark.parametrize(("name", "make", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_file_is_refused_in_one_sentence(tmp_path, name, make, reason):
    path = tmp_path / name
    path.write_bytes(make())
    assert reason in refusal(path)


def test_line_break_in_a_file_name_does_not_break_the_sentence(tmp_path):
    path = tmp_path / "two\nlines.jpg"
    path.write_bytes(b"words")
    with pytest.raises(BadImage) as caught:
        images.read(path)
    text = str(caught.value)
    assert text.isprintable()
    assert "two" in text
    assert "lines.jpg" in text


@pytest.mark.parametrize(
    "name", ["missing.jpg", "folder", "missing/a.jpg", "n" * 300 + ".jpg", "a\0b.jpg", "\ud800.jpg"]
)
def test_path_that_is_no_file_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadImage) as caught:
        images.read(tmp_path / name)
    printable = "".join(c if c.isprintable() else " " for c in name)
    assert_one_sentence(str(caught.value), Path(printable).name)


def test_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "is not a file" in refusal(tmp_path / "pipe.jpg")


def test_a_pipe_or_device_that_took_the_place_of_a_file_is_neither_waited_for_nor_read(tmp_path, monkeypatch):
    """What was a file when it was looked at may be something else when it is opened."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    for name in ("pipe.jpg", "zero.jpg"):
        assert "is not a file" in refusal(tmp_path / name)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system has no /proc")
def test_a_link_into_proc_is_not_read(tmp_path, monkeypatch):
    """Such files have no size; some of them wait for ever when they are read."""
    (tmp_path / "secret.jpg").symlink_to("/proc/self/environ")
    assert "is empty" in refusal(tmp_path / "secret.jpg")


def test_frames_are_not_counted(monkeypatch):
    sought: list[int] = []
    for plugin in (TiffImagePlugin.TiffImageFile, GifImagePlugin.GifImageFile):

        def seek(image: Any, frame: int, *more: Any, real: Any = plugin._seek) -> None:
            sought.append(frame)
            real(image, frame, *more)

        monkeypatch.setattr(plugin, "_seek", seek)
    for data in (tiff_of_frames(300), gif_of_frames(300)):
        assert images.read(data).notes == ("Only the first frame is used.",)
        assert len(sought) < 10
        sought.clear()


def test_a_jpeg_of_more_than_100_scans_is_refused_before_decoding(tmp_path, monkeypatch):
    assert images.read(jpeg_of_scans(100)).size == (256, 256)
    (tmp_path / "scans.jpg").write_bytes(jpeg_of_scans(101))
    forbid_decoding(monkeypatch)
    assert "more than 100 scans" in refusal(tmp_path / "scans.jpg")


NO_PIXELS: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(0, 8, chunk(b"IDAT", zlib.compress(b"\0" * 8))),
    "bmp-width": lambda: bmp_claim(0, 4),
    "bmp-height": lambda: bmp_claim(4, 0),
    "jpeg": lambda: save(noise(), "JPEG").replace(struct.pack(">HH", 48, 64), bytes(4), 1),
    "jpeg-width": lambda: save(noise(), "JPEG").replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 48, 0), 1),
    "gif": lambda: save(noise(), "GIF").replace(struct.pack("<HH", 64, 48), bytes(4)),
    "tiff": lambda: save(noise(), "TIFF").replace(struct.pack("<HHI", 256, 4, 1) + b"\x40", bytes(9)),
}


@pytest.mark.parametrize("kind", NO_PIXELS)
def test_an_image_without_pixels_is_refused(tmp_path, kind):
    path = tmp_path / "flat"
    path.write_bytes(NO_PIXELS[kind]())
    refusal(path)


def test_memory_that_runs_out_is_no_damage(tmp_path, monkeypatch):
    noise().save(tmp_path / "a.png")

    def load(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert "too much memory" in refusal(tmp_path / "a.png")


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


def bmp_claim(width: int, height: int) -> bytes:
    data = bytearray(save(Image.new("RGB", (4, 4)), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png": ("bomb.png", lambda: png(100_000, 100_000, chunk(b"IDAT", zlib.compress(bytes(999))))),
    "png-just-above": ("bomb.png", lambda: png(80_001, 1_000, chunk(b"IDAT", zlib.compress(bytes(999))))),
    "gif": ("bomb.gif", lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + save(noise(), "GIF")[10:]),
    "bmp": ("bomb.bmp", lambda: bmp_claim(30_000, 30_000)),
}


@pytest.mark.parametrize(("name", "make"), BOMBS.values(), ids=BOMBS.keys())
def test_bomb_is_refused_from_its_header(tmp_path, monkeypatch, name, make):
    forbid_decoding(monkeypatch)
    path = tmp_path / name
    path.write_bytes(make())
    started = time.perf_counter()
    assert "pixels" in refusal(path)
    assert time.perf_counter() - started < 2


def test_sound_picture_of_90_million_pixels_is_refused_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    line_bytes = 10_000 // 8 + 1
    path.write_bytes(png(10_000, 9_000, chunk(b"IDAT", zlib.compress(bytes(line_bytes * 9_000), 1)), bits=1, colour=0))
    with Image.open(path) as sound:
        sound.load()
        assert sound.size == (10_000, 9_000)
    forbid_decoding(monkeypatch)
    started = time.perf_counter()
    text = refusal(path)
    assert time.perf_counter() - started < 2
    assert "10000 x 9000" in text
    assert "80 million" in text


def test_pixel_cap_is_the_largest_size_still_read(tmp_path):
    path = tmp_path / "a.png"
    noise((20, 10)).save(path)
    assert images.read(path, max_pixels=200).size == (20, 10)
    assert "20 x 10" in refusal(path, max_pixels=199)


def test_byte_cap_is_the_largest_file_still_read(tmp_path):
    path = tmp_path / "a.png"
    noise().save(path)
    length = path.stat().st_size
    assert images.read(path, max_bytes=length).size == (64, 48)
    assert "limit" in refusal(path, max_bytes=length - 1)
    with pytest.raises(BadImage, match="limit"):
        images.read(path.read_bytes(), max_bytes=length - 1)


def test_refusal_by_bytes_names_the_real_size_of_the_file(tmp_path):
    path = tmp_path / "sparse.bmp"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    text = refusal(path, max_bytes=2**20)
    assert "300 MB" in text
    assert "limit is 1 MB" in text


def test_uploaded_bytes_are_read_like_a_file(tmp_path):
    path = tmp_path / "a.png"
    noise().save(path)
    assert np.array_equal(np.asarray(images.read(path.read_bytes()).image), np.asarray(noise()))
    assert np.array_equal(np.asarray(images.read(str(path)).image), np.asarray(noise()))


@pytest.mark.parametrize("data", [b"", b"words", save(noise(), "JPEG")[:700]], ids=["empty", "text", "cut"])
def test_refused_upload_is_called_the_upload(data):
    with pytest.raises(BadImage) as caught:
        images.read(data)
    assert_one_sentence(str(caught.value), "The upload")


def test_bad_image_is_a_foir_error():
    with pytest.raises(FoirError):
        images.read(b"words")


SEEDS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: save(noise(), "JPEG"),
    "jpeg-progressive": lambda: save(noise(), "JPEG", progressive=True),
    "png": lambda: save(noise(), "PNG"),
    "png-palette": lambda: save(noise().quantize(16), "PNG", transparency=3),
    "webp": lambda: save(noise(), "WEBP"),
    "webp-animated": lambda: frames("WEBP"),
    "gif": lambda: save(noise(), "GIF"),
    "gif-animated": lambda: frames("GIF"),
    "bmp": lambda: save(noise(), "BMP"),
    "tiff": lambda: save(noise(), "TIFF"),
    "tiff-lzw": lambda: save(noise(), "TIFF", compression="tiff_lzw"),
    "tiff-float": lambda: save(grey(list(range(99)), np.float32), "TIFF"),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_randomly_damaged_file_gives_a_photo_or_bad_image(kind):
    data = SEEDS[kind]()
    assert images.read(data).image.mode == "RGB"
    random = np.random.default_rng(list(kind.encode()))
    refused = 0
    for attempt in range(25):
        reach = len(data) if attempt % 2 else min(len(data), 200)
        damaged = bytearray(data)
        for at in random.integers(0, reach, int(random.integers(1, 12))):
            damaged[at] = int(random.integers(0, 256))
        if attempt % 3 == 0:
            damaged = damaged[: int(random.integers(1, len(data)))]
        try:
            photo = images.read(bytes(damaged))
        except BadImage as error:
            refused += 1
            assert_one_sentence(str(error), "The upload")
        else:
            assert photo.image.mode == "RGB"
            assert np.asarray(photo.image).shape == (photo.size[1], photo.size[0], 3)
            assert photo.orientation in range(1, 9)
    assert refused > 0


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((640, 480), 320, (320, 240)),
        ((300, 900), 90, (30, 90)),
        ((100, 50), 320, (100, 50)),
        ((1, 5000), 320, (1, 320)),
        ((1, 1), 320, (1, 1)),
    ],
)
def test_thumbnail_is_a_jpeg_with_the_longer_side_capped_and_never_enlarged(size, side, expected):
    picture = Image.new("RGB", size, (200, 100, 50))
    with Image.open(io.BytesIO(images.thumbnail(picture, side))) as small:
        assert small.format == "JPEG"
        assert small.size == expected
        assert np.abs(np.asarray(small).astype(int) - (200, 100, 50)).max() <= 4
    assert picture.size == size


def test_thumbnail_keeps_the_corners_in_place_and_is_320_by_default():
    picture = Image.fromarray(corners()).resize((960, 640), Image.Resampling.NEAREST)
    with Image.open(io.BytesIO(images.thumbnail(picture))) as small:
        assert small.size == (320, 213)
        pixels = np.asarray(small).astype(int)
    for (y, x), colour in {(9, 9): RED, (9, -9): LIME, (-9, 9): BLUE, (-9, -9): WHITE}.items():
        assert np.abs(pixels[y, x] - colour).max() <= 8


def test_a_mask_is_its_alpha_where_it_has_one_and_its_brightness_where_not(tmp_path):
    inside = np.zeros((20, 30), np.uint8)
    inside[5:10, 5:20] = 255
    white = np.full((20, 30), 255, np.uint8)
    Image.merge("LA", [Image.fromarray(white), Image.fromarray(inside)]).save(tmp_path / "cutout.png")
    Image.fromarray(inside).save(tmp_path / "bright.png")
    Image.merge("LA", [Image.fromarray(inside), Image.fromarray(white)]).save(tmp_path / "opaque.png")
    for name in ("cutout.png", "bright.png", "opaque.png"):
        assert np.array_equal(images.read_mask(tmp_path / name), inside), name


def test_a_thumbnail_says_nothing_that_the_file_said_in_a_comment(tmp_path):
    image = Image.new("RGB", (40, 30), "red")
    image.save(tmp_path / "said.jpg", comment=b"taken at home")
    image.convert("P").save(tmp_path / "long.gif", comment=b"x" * 70_000)
    for name in ("said.jpg", "long.gif"):
        data = images.thumbnail(images.read(tmp_path / name).image)
        assert b"home" not in data and b"xxx" not in data and len(data) < 5000
