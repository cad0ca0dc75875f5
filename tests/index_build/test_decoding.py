"""Images that are decoded for a build: in other processes, and what ends these is left out."""

import os
from pathlib import Path

import pytest

from foir import Index, decoders, images
from index_build.pipeline import Plan, build
from tests.conftest import draw
from tests.kill_points import StandIn

CRASHES = """
import os, sys
from foir import decoder_process, images
real = images.decode
images.decode = lambda data, *more: os.abort() if data == b"crash" else real(data, *more)
decoder_process.main()
"""


@pytest.fixture
def pool(monkeypatch):
    pool = decoders.DecoderPool(2)
    monkeypatch.setattr(decoders, "_pool", pool)
    yield pool
    pool.close()


def test_an_image_that_crashes_its_decoder_is_left_out_and_the_others_are_indexed(tmp_path, pool, monkeypatch):
    monkeypatch.setattr(decoders, "_COMMAND", CRASHES)
    monkeypatch.setattr(images, "decode", lambda *args: pytest.fail("decoded in this process"))
    folder = draw(tmp_path / "pictures", 6)
    for name in ("02.png", "03.png"):
        (folder / name).write_bytes(b"crash")
    built = build(Plan(folder, tmp_path / "index", "stand-in"), StandIn())
    assert [item.file for item in Index.open(tmp_path / "index").items()] == ["00.png", "01.png", "04.png", "05.png"]
    assert [(entry["file"], entry["reason"]) for entry in built.rejected] == [
        (name, f"{name} makes the decoder crash, so it cannot be read.") for name in ("02.png", "03.png")
    ]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system has no /proc")
def test_links_to_what_is_no_file_are_left_out_and_never_read(tmp_path, monkeypatch):
    folder = draw(tmp_path / "pictures", 2)
    os.mkfifo(folder / "pipe.png")
    for name, target in (("proc", "/proc/self/environ"), ("zero", "/dev/zero"), ("fifo", "pipe.png"), ("sys", "/sys")):
        (folder / f"{name}.png").symlink_to(target)
    opened: set[str] = set()
    real = os.open

    def record(path, *more, **named):
        opened.add(Path(path).stem)
        return real(path, *more, **named)

    monkeypatch.setattr(os, "open", record)
    built = build(Plan(folder, tmp_path / "index", "stand-in"), StandIn())
    assert built.image_count == 2
    assert {entry["file"]: entry["reason"] for entry in built.rejected} == {
        "fifo.png": "fifo.png is not a file.",
        "pipe.png": "pipe.png is not a file.",
        "proc.png": "proc.png is empty.",
        "zero.png": "zero.png is not a file.",
    }
    assert "00" in opened and not opened & {"fifo", "pipe", "zero", "sys"}
