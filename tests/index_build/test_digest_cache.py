"""Files that are known to be intact are not hashed again."""

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from foir import BadIndex, Index
from foir.index import digest_cache
from foir.index.format import verify_file
from index_build.update import update
from tests.conftest import scene
from tests.index_build.conftest import file_of, flip, rewrite, tree

pytestmark = pytest.mark.usefixtures("small_and_apart")


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read whole when an index is opened; all count as settled."""
    names: list[str] = []

    def counted(folder, name, facts):
        names.append(name)
        verify_file(folder, name, facts)

    monkeypatch.setattr(digest_cache, "verify_file", counted)
    monkeypatch.setattr(digest_cache, "SETTLED", -1.0)
    return names


def read_by(out, reads):
    """How many of the twelve files are read whole to open an index, and then to open it again."""
    counts = []
    for _ in range(2):
        reads.clear()
        Index.open(out)
        counts.append(len(reads))
    return counts


def test_a_second_opening_reads_no_file_and_one_after_a_change_the_new_ones(out, pictures, reads):
    before, old = tree(out), set(Index.open(out).manifest.files)
    assert set(reads) == old and read_by(out, reads) == [0, 0] and tree(out) == before
    scene(20).save(pictures / "new.png")
    update(out)
    reads.clear()
    new = Index.open(out)
    space = new.manifest.spaces["image"]
    regions = new.manifest.regions.shards if new.manifest.regions else ()
    assert {space.shards[-1], space.heads[-1], regions[-1]} < set(reads)
    assert not set(reads) & {*space.shards[:2], *regions[:2]}
    assert read_by(out, reads) == [0, 0]


@pytest.mark.parametrize("kind", ["vectors", "heads", "regions", "items", "objects", "rejected", "digest"])
def test_a_changed_byte_is_noticed_though_size_and_time_are_the_old_ones(full, kind, reads):
    Index.open(full)
    if kind == "digest":
        rewrite(full, lambda manifest: manifest["files"][manifest["items"]].update(sha256="0" * 64))
    else:
        path = file_of(full, kind)
        stat = path.stat()
        flip(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(BadIndex):
        Index.open(full)


def test_a_copied_index_is_read_whole_again(out, reads):
    assert read_by(out, reads) == [12, 0]
    copied = shutil.copytree(out, out.parent / "copied" / "index")
    assert read_by(copied, reads) == [12, 0] and read_by(out, reads) == [0, 0]
    shutil.rmtree(out)
    shutil.copytree(copied, out)  # the same names, sizes and times at the same place
    assert read_by(out, reads) == [12, 0]


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "record", [b"", b"{", b"[]", b"null", b"\xff", b'{"x": 1}', DEEP, "folder", "lost", "homeless"]
)
def test_a_damaged_record_is_written_anew_and_where_there_can_be_none_all_is_read(
    out, tmp_path, record, reads, monkeypatch
):
    Index.open(out)
    (path,) = (tmp_path / "cache").rglob("*.json")
    if isinstance(record, bytes):
        path.write_bytes(record)
    elif record == "folder":
        path.unlink()
        (path / "in the way").mkdir(parents=True)
    elif record == "lost":
        shutil.rmtree(tmp_path / "cache")
        (tmp_path / "cache").write_bytes(b"precious")
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert read_by(out, reads) == [12, 0 if isinstance(record, bytes) else 12]


@pytest.mark.parametrize("slow", [0, 100], ids=["fast", "slow"])
def test_files_that_are_young_when_they_are_looked_at_are_not_recorded(out, reads, slow, monkeypatch):
    monkeypatch.setattr(digest_cache, "time", SimpleNamespace(time=lambda: time.time() + slow * len(reads)))
    monkeypatch.setattr(digest_cache, "SETTLED", 60.0)
    for path in out.iterdir():
        os.utime(path, (1, 1))  # the inode's own time of change stays young
    assert read_by(out, reads) == [12, 12]
