"""Indexes to build, to interrupt and to change, and how to compare them."""

import json
import os
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from foir import Index, decoders, encoders, images
from foir.index import Object
from foir.index.format import MANIFEST
from foir.index.manifest import manifest_digest
from index_build import pipeline
from index_build.cli import main
from index_build.maintenance import find_damage
from index_build.pipeline import Plan, build
from index_build.sources import Metadata
from index_build.update import update
from tests.conftest import adopt, scene

ROOT = Path(__file__).parents[2]


def tree(folder):
    """Every file under a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def make(folder, out, **how):
    return build(Plan(folder, out, "toy", device="cpu", **how))


@pytest.fixture
def four_a_shard(monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 4)


@pytest.fixture
def unbroken(folder, four_a_shard):
    """The finished index, with heads, of a build that nothing disturbed: three shards of 4, 4 and 2 pictures."""
    out = folder.parent / "unbroken"
    make(folder, out, heads=True)
    return out


def interrupt(folder, out, monkeypatch, at="b/08.png", **how):
    """A build with a head cache that is stopped by Ctrl-C when it comes to a file."""
    how = {"heads": True} | how
    real = decoders.read

    def read(path, **limits):
        if path == folder / at:
            raise KeyboardInterrupt
        return real(path, **limits)

    with monkeypatch.context() as patch:
        patch.setattr(decoders, "read", read)
        with pytest.raises(KeyboardInterrupt):
            make(folder, out, **how)


@pytest.fixture
def mixed(folder):
    """The ten good pictures with damaged ones among them, before, between and behind."""
    good = (folder / "a" / "01.png").read_bytes()
    (folder / "0-empty.jpg").write_bytes(b"")
    (folder / "a" / "04-cut.png").write_bytes(good[: len(good) // 2])
    (folder / "a" / "06-words.jpeg").write_text("not a picture")
    (folder / "b" / "03-zeroed.PNG").write_bytes(good[:12] + bytes(40) + good[52:])
    (folder / "z-gone.webp").symlink_to(folder / "nowhere.webp")
    os.mkfifo(folder / "z-pipe.gif")
    return folder


BROKEN = {
    "0-empty.jpg": "is empty",
    "a/04-cut.png": "damaged or incomplete",
    "a/06-words.jpeg": "not a picture",
    "b/03-zeroed.PNG": "not a picture",
    "z-gone.webp": "not a file",
    "z-pipe.gif": "not a file",
}


def check_alignment(index, folder, toy):
    """Every row's vector is that of the row's file, and no other row's is as close."""
    stored = np.concatenate(index.space().shards).astype(np.float32)
    for row in range(len(index)):
        image = images.read(folder / index.item(row).file).image
        near = stored @ toy.finish(toy.prefix(toy.pixels([image]))).vectors[0].numpy()
        assert near[row] > 0.999
        assert np.delete(near, row).max() < 0.99


def count_reads(monkeypatch):
    seen: Counter[str] = Counter()
    real = decoders.read
    monkeypatch.setattr(decoders, "read", lambda path, **limits: seen.update([path.name]) or real(path, **limits))
    return seen


def thing(name, item=-1):
    return Object(item, (10.0, 20.5, 60.0, 80.0), "1 2 3", "disc", "disc-7", name, "drawn")


A, B = [f"a/{i:02}.png" for i in range(1, 10, 2)], [f"b/{i:02}.png" for i in range(0, 10, 2)]


FILES = A + B  # their places are their ids


NOTED = ("a/03.png", "b/04.png", "b/08.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """ "pictures", ten in two folders, and their "index" with heads, captions and objects, shards of 4, 4 and 2."""
    base = tmp_path_factory.mktemp("change")
    for name in FILES:
        (base / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        scene(int(Path(name).stem)).save(base / "pictures" / name)
    disc = (10.0, 20.0, 60.0, 80.0), None, "disc", None
    notes = {name: Metadata(f"of {name}", "drawn", "CC0-1.0", (Object(-1, *disc, name, None),)) for name in NOTED}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SHARD_SIZE", 4)
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        build(Plan(base / "pictures", base / "index", "toy", heads=True, device="cpu", metadata=notes))
    return base


@pytest.fixture
def small_and_apart(tmp_path, monkeypatch):
    """Four pictures a shard, and a record of verified files of this test only."""
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def out(made, tmp_path):
    """A copy of the index, with its folder beside it, that a test may change."""
    shutil.copytree(made, tmp_path / "made")
    return adopt(tmp_path / "made" / "index", tmp_path / "made" / "pictures")


@pytest.fixture
def pictures(out):
    return out.parent / "pictures"


@pytest.fixture(scope="module")
def check(toy):
    """Opens an index and finds every row of every space, and of the head cache, to be of its own file."""

    @cache
    def seen(model, data):
        return model.finish(model.prefix(model.pixels([images.read(data).image])))

    def checked(out, **models):
        index = Index.open(out)
        files = [out / index.root / item.file for item in index.items()]
        for name, space in index.spaces.items():
            own = [seen(models.get(name, toy), file.read_bytes()) for file in files]
            near = np.concatenate(space.shards).astype(np.float32) @ np.stack([each.vectors[0] for each in own]).T
            assert near.diagonal().min() > 0.999
            assert (near - 2 * np.eye(len(near))).max() < 0.99
            for part, stored in (("z", space.z), ("residual", space.residual)):
                expected = np.stack([getattr(each, part)[0] for each in own])
                assert not stored or np.allclose(np.concatenate(stored), expected, rtol=1e-2, atol=1e-2)
        ids = [item.id for item in index.items()]
        assert len(set(ids)) == len(ids) and max(ids) < (index.manifest.next_id or 0)
        stats = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        assert [(item.bytes, item.modified) for item in index.items()] == stats
        assert list(find_damage(out)) == []
        return index

    return checked


@pytest.fixture
def no_encoder(monkeypatch):
    monkeypatch.setattr(encoders, "load", lambda *args, **more: pytest.fail("an encoder is loaded"))


def by_name(out):
    return {item.file: item for item in Index.open(out).items()}


def ids(out):
    return {file: item.id for file, item in by_name(out).items()}


def left_out(out):
    lines = (out / Index.open(out).manifest.rejected).read_text("utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def content(index):
    """The bytes of each picture's vector."""
    rows = np.concatenate(index.space().shards)
    return {item.file: row.tobytes() for item, row in zip(index.items(), rows, strict=True)}


def refused(error, word):
    """The message is one sentence and holds the word."""
    text = str(error.value)
    assert text.endswith(".") and ". " not in text and "\n" not in text and str(word) in text


@pytest.fixture
def full(out, pictures):
    """An index with something in each of its files."""
    (pictures / "bad.png").write_bytes(b"junk")
    update(out)
    return out


def file_of(out, kind):
    manifest = json.loads((out / MANIFEST).read_text())
    space, regions = manifest["spaces"]["image"], manifest.pop("regions")["shards"]
    names = {"manifest": MANIFEST, "vectors": space["shards"][1], "heads": space["heads"][-1], "regions": regions[1]}
    return out / (names | manifest)[kind]


def rewrite(out, change):
    """Change a manifest and give it the digest it then needs."""
    manifest = json.loads((out / MANIFEST).read_text())
    change(manifest)
    manifest["digest"] = manifest_digest(manifest)
    (out / MANIFEST).write_text(json.dumps(manifest))


def run_command(capsys, command, out):
    more = {"add": [out.parent / "pictures" / "a" / "01.png"], "remove": ["b/00.png"]}.get(command, [])
    status = main([command, str(out), *map(str, more), *(["--device", "cpu"] if command in ("add", "update") else [])])
    return (status, *capsys.readouterr())
