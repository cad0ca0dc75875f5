"""Bytes that a disk lost after they were verified: never signed, never copied, and found by those who look."""

import os
from dataclasses import replace

import pytest
from PIL import Image

from foir import BadIndex, Index, images
from foir.index import format as index_format
from foir.index import writer
from index_build import shard_rewrite
from index_build.changes import UpdateResult
from index_build.maintenance import find_damage
from index_build.update import add, remove, update
from tests.conftest import scene
from tests.index_build.conftest import by_name, file_of

pytestmark = pytest.mark.usefixtures("small_and_apart")


@pytest.fixture
def rot(out, monkeypatch):
    """Flips a byte of a file as a disk does: nothing that the record of verified files knows of it changes."""

    def flip(path):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    def rotten(kind):
        path = file_of(out, kind)
        Index.open(out)
        flip(path)
        trusting = lambda folder, name, sha256: None  # noqa: E731 - as for a file whose stamp is the recorded one
        monkeypatch.setattr("foir.index.digest_cache.verify_file", trusting)
        return path

    return rotten


@pytest.mark.parametrize("kind", ["vectors", "heads", "regions"])
def test_an_update_that_leaves_a_rotten_file_alone_does_not_sign_it(out, pictures, rot, kind):
    path = rot(kind)
    digest = Index.open(out).manifest.files[path.name]
    scene(20).save(pictures / "new.png")
    if kind == "heads":  # of the last shard, which is short and therefore copied with what comes next
        with pytest.raises(BadIndex, match=path.name):
            update(out)
    else:
        assert update(out).added == ("new.png",)
    assert Index.open(out).manifest.files[path.name] == digest
    assert path.name in "".join(find_damage(out))


@pytest.mark.parametrize("kind", ["vectors", "heads", "regions"])
def test_an_update_that_copies_a_rotten_file_is_refused_and_the_old_index_stays(out, rot, kind):
    path = rot(kind)
    index = Index.open(out)
    place = index.manifest.spaces["image"].heads.index(path.name) if kind == "heads" else 1
    before = index.manifest.digest
    with pytest.raises(BadIndex, match=path.name):
        remove(out, [index.item(sum(map(len, index.space().shards[:place]))).file])
    assert Index.open(out).manifest.digest == before


@pytest.mark.parametrize("kind", ["items", "objects"])
def test_a_rotten_table_is_never_read(out, rot, kind):
    path = rot(kind)
    for change in (update, Index.open, lambda out: remove(out, ["a"])):
        with pytest.raises(BadIndex, match=path.name):
            change(out)


def test_nothing_unchanged_is_hashed_or_copied_by_an_update(out, pictures, monkeypatch):
    Index.open(out)
    index, hashed, copied = Index.open(out), set[str](), set[str]()

    def noted(real, names):
        return lambda *path: names.add(path[-1] if len(path) > 1 else path[0].name) or real(*path)

    monkeypatch.setattr(writer, "digest", noted(index_format.digest, hashed))
    monkeypatch.setattr(shard_rewrite, "verified_bytes", noted(index_format.verified_bytes, copied))
    scene(20).save(pictures / "new.png")
    update(out)
    new = Index.open(out).manifest
    assert hashed <= set(new.files) - set(index.manifest.files)
    assert copied.isdisjoint(name for name in index.manifest.files if name in new.files)


def test_verify_names_the_file_and_the_repair_and_the_next_reader_does_not_trust_the_record(out, pictures):
    Index.open(out)
    path = file_of(out, "vectors")
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (damage,) = find_damage(out)
    assert path.name in damage and f"foir index build {pictures.resolve()} --out {out} --encoder toy" in damage
    with pytest.raises(BadIndex):
        Index.open(out)


def test_check_notices_other_bytes_under_the_same_size_and_time_and_repairs_thumbnails(out, pictures, check):
    path, index = pictures / "a" / "01.png", Index.open(out)
    stat, data = path.stat(), path.read_bytes()
    assert update(out, check=True) == UpdateResult()
    Image.new("RGB", (160, 120), "red").save(path)
    path.write_bytes(path.read_bytes().ljust(len(data), b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size and update(out) == UpdateResult()
    assert update(out, check=True).reencoded == ("a/01.png",)
    damaged = next(item for item in index.items() if item.caption)
    index.thumb(damaged).write_bytes(b"rot")
    (damage,) = find_damage(out)
    assert f"foir index update {out} --check repairs it" in damage
    assert update(out, check=True) == UpdateResult()
    check(out)
    assert by_name(out)[damaged.file] == damaged and Index.open(out).objects(damaged.id)


def test_files_that_were_copied_or_touched_are_read_but_not_encoded_again(out, pictures, check, no_encoder):
    before = Index.open(out)
    for path in pictures.rglob("*.png"):
        os.utime(path)
    assert update(out) == UpdateResult()
    after = check(out)
    assert [item.caption for item in after.items()] == [item.caption for item in before.items()]
    assert after.manifest.files.keys() - before.manifest.files.keys() == {after.manifest.items}


def test_where_an_index_holds_no_hash_of_a_file_a_check_takes_it(out, pictures, monkeypatch):
    scene(20).save(pictures / "new.png")
    with monkeypatch.context() as patch:
        patch.setattr("foir.decoders.read", lambda path, **options: replace(images.read(path), content=None))
        assert add(out, [pictures / "new.png"]).added == ("new.png",)
    assert by_name(out)["new.png"].content is None
    assert update(out, check=True) == UpdateResult()
    assert by_name(out)["new.png"].content == index_format.digest(pictures / "new.png")
