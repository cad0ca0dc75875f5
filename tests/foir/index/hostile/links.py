"""Files of an index that are links, pipes, folders or pictures of another kind."""

import hashlib
import io
import os
import shutil
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from . import tables
from .draft import Draft

Attack = Callable[[Draft], None]


def _link(kind: str, target: str) -> Attack:
    """A link in the place of a file, whose digest is that of its target where it has one."""

    def attack(draft: Draft) -> None:
        path, aim = draft.path(kind), draft.folder / target
        path.unlink()
        path.symlink_to(target)
        if kind != "manifest" and aim.is_file() and not target.startswith("/proc"):
            draft.manifest["files"][path.name]["sha256"] = hashlib.sha256(aim.read_bytes()).hexdigest()

    return attack


def _of(draft: Draft, kind: str) -> Path:
    return draft.path(kind)


def _pipe(path: Callable[[Draft], Path]) -> Attack:
    def attack(draft: Draft) -> None:
        path(draft).unlink()
        os.mkfifo(path(draft))

    return attack


def _folder(kind: str) -> Attack:
    def attack(draft: Draft) -> None:
        draft.path(kind).unlink()
        draft.path(kind).mkdir()

    return attack


def _moved(kind: str) -> Attack:
    """The right bytes, but outside the index behind a link."""

    def attack(draft: Draft) -> None:
        path = draft.path(kind)
        path.rename(draft.base / "private" / path.name)
        path.symlink_to(Path("../private") / path.name)

    return attack


def _thumb(data: bytes | Callable[[], bytes]) -> Attack:
    """Another thumbnail of the first image, with its digest."""

    def attack(draft: Draft) -> None:
        made = data if isinstance(data, bytes) else data()
        digest = hashlib.sha256(made).hexdigest()
        draft.table("items", tables.first("thumb", digest))
        path = draft.folder / "thumbs" / digest[:2] / f"{digest}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made)

    return attack


def _thumb_link(target: str) -> Attack:
    """A link in the place of a thumbnail, whose digest is that of its target where it has one."""

    def attack(draft: Draft) -> None:
        aim = draft.folder / "thumbs" / "ab" / target
        _thumb(aim.read_bytes() if aim.is_file() and not target.startswith("/proc") else b"x")(draft)
        draft.thumb().unlink()
        draft.thumb().symlink_to(target)

    return attack


def _thumbs_elsewhere(part: str) -> Attack:
    """The folder of thumbnails, or one in it, is a link to that of another index, where gc could remove them."""

    def attack(draft: Draft) -> None:
        folder = draft.thumb().parent if part else draft.folder / "thumbs"
        shutil.rmtree(folder)
        folder.symlink_to(draft.base / "private" / "thumbs" / part)

    return attack


def _jpeg(size: tuple[int, int]) -> bytes:
    sink = io.BytesIO()
    Image.new("L", size).save(sink, "JPEG")
    return sink.getvalue()


def _tall() -> bytes:
    """A JPEG that says it has 65,500 x 65,500 pixels."""
    data, size = bytearray(_jpeg((16, 16))), (65_500).to_bytes(2, "big")
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = size + size
    return bytes(data)


def _png_bomb() -> bytes:
    """100 million black pixels."""
    sink = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(sink, "PNG")
    return sink.getvalue()


def _text_bomb() -> bytes:
    """A PNG whose comment bursts."""
    chunk = b"zTXt" + b"a\0\0" + zlib.compress(bytes(200_000_000), 9)
    data, sink = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big"), io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(sink, "PNG")
    whole = sink.getvalue()
    return whole[:33] + data + whole[33:]


def _partial(draft: Draft) -> None:
    """The folder of a build that was killed is a link to the owner's."""
    (draft.folder / ".partial").symlink_to(draft.base / "private")


def _others(draft: Draft) -> None:
    """Files of other names, which gc must leave, and those of a killed writer, which are links."""
    (draft.folder / "notes.txt").write_text("mine")
    (draft.folder / f"{'0' * 32}.safetensors").symlink_to(draft.base / "private" / "secret.png")
    (draft.folder / "manifest.json.1.2.part").symlink_to(draft.base / "private" / "secret.png")


KINDS = ("manifest", "items", "objects", "rejected", "vectors", "heads")
TARGETS = {
    "endless zeros": "/dev/zero",
    "the passwords": "/etc/passwd",
    "the memory": "/proc/self/mem",
    "itself": "../index/self",
    "nowhere": "nowhere",
    "a folder": "/etc",
    "a pipe": "../private/pipe",
    "the terminal": "/dev/tty",
}
ATTACKS: dict[str, Attack] = {
    **{f"{kind} is a link to {name}": _link(kind, target) for kind in ("manifest", "items", "vectors", "rejected")
       for name, target in TARGETS.items()},
    **{f"{kind} is a link to endless zeros": _link(kind, "/dev/zero") for kind in ("objects", "heads")},
    **{f"{kind} is a pipe": _pipe(partial(_of, kind=kind)) for kind in KINDS},
    **{f"{kind} is a folder": _folder(kind) for kind in KINDS},
    **{f"{kind} lies outside": _moved(kind) for kind in KINDS},
    "thumb is a pipe": _pipe(Draft.thumb),
    **{f"thumb is a link to {name}": _thumb_link(target) for name, target in TARGETS.items()},
    "thumb is a link to a private picture": _thumb_link("../../../private/secret.png"),
    "thumb is a page": _thumb(b"<html><script>alert(1)</script>"),
    "thumb is an SVG": _thumb(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
    "thumb is nothing": _thumb(b""),
    "thumb is cut": _thumb(lambda: _jpeg((64, 64))[:200]),
    "thumb of 65,500 pixels a side": _thumb(_tall),
    "thumb of 100 million pixels": _thumb(_png_bomb),
    "thumb with a bursting comment": _thumb(_text_bomb),
    "thumb of 100 MB": _thumb(lambda: _jpeg((16, 16)) + bytes(100_000_000)),
    "thumbs are another index's": _thumbs_elsewhere(""),
    "a folder of thumbs is another index's": _thumbs_elsewhere("ab"),
    "the killed build's folder is the owner's": _partial,
    "files of other origin": _others,
}  # fmt: skip
