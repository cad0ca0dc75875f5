"""Indexes on the Hugging Face Hub: a data set repository that holds an index's files, its thumbnails in tables.

An index is taken at one commit. Each file is checked against the manifest before it gets its place, the manifest is put
in place last, so that a reader of the local copy sees the old index or the new one here too. What a repository says of
folders is not believed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foir import hub, images
from foir.errors import BadImage, BadIndex, FoirError, Unavailable
from foir.index import writer
from foir.index.format import CONTENT_NAME, MANIFEST, OURS, read_manifest, thumb_name, used_files, verify_file
from foir.index.gc import remove_unused
from foir.index.lock import exclusive_lock
from foir.index.reader import Index

ADDRESS = re.compile(rf"hf://datasets/({hub.NAME}/{hub.NAME})(?:@({hub.NAME}))?/?", re.ASCII)
# What of a repository's manifest is taken over; all else in it is left behind.
KEYS = ("format", "items", "objects", "rejected", "next_id")
SPACE_KEYS = ("encoder", "revision", "probe", "shards", "heads", "way")
THUMB_BYTES, THUMB_PIXELS = 2 * 2**20, 4_000_000
THUMB_SCHEMA = pa.schema([("digest", pa.string()), ("jpeg", pa.binary())])


def local_copy(address: str | Path) -> Path:
    """The folder of an index: itself, or the local copy of `hf://datasets/USER/NAME[@REVISION]`, pulled if need be.

    Where it cannot be brought up to date, a copy of an earlier time serves, with a warning.

    Raises:
        Unavailable: It cannot be fetched, and no copy is here.
        BadIndex: What was fetched is not what its manifest names, and no copy is here.
    """
    out = local_folder(address)
    if not str(address).startswith("hf:"):
        return out
    repo, revision = parse_address(str(address))
    try:
        pull(repo, out, revision)
    except FoirError as error:
        if not (out / MANIFEST).exists():
            raise
        warnings.warn(f"{error} The copy of an earlier time is used.", stacklevel=2)
    return out


def local_folder(address: str | Path) -> Path:
    """The folder where an index is, or where the copy of one on the Hub will be; see `located`.

    Raises:
        Unavailable: It is no address.
    """
    if not str(address).startswith("hf:"):
        return Path(address)
    repo, revision = parse_address(str(address))
    return hub.cache_folder() / "indexes" / "--".join([*repo.split("/"), *([revision] if revision else [])])


def parse_address(address: str) -> tuple[str, str | None]:
    """Repository and revision of an address.

    Raises:
        Unavailable: It is none.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise Unavailable(f"{address} is no address of an index: write hf://datasets/USER/NAME or ...@REVISION.")
    return found[1], found[2]


def pull(repo: str, out: Path, revision: str | None = None) -> str:
    """Fetch an index, or bring a local copy of it up to date; pulling again goes on behind what was fetched.

    Args:
        repo: "owner/name" of the data set.
        out: Folder for the copy.
        revision: Commit, tag or branch; the newest commit if left out.

    Returns:
        Where it came from, `hf://datasets/USER/NAME@COMMIT`, which its manifest keeps as `origin`.

    Raises:
        Unavailable: It cannot be fetched, or `out` cannot be written.
        BadIndex: It is no index, or holds something else than its manifest names, also when fetched anew; or `out`
            holds files that are of no index.
    """
    sha = hub.resolve_commit(repo, revision)
    origin = f"hf://datasets/{repo}@{sha}"
    if _whole_copy(out, repo, origin):
        return origin
    _refuse_foreign(out)
    try:
        published = read_manifest(hub.download_files(repo, sha, [MANIFEST]))
        tables = list(published.get("thumbs", []))
        manifest = _own_manifest(published, origin)
        names = sorted({*manifest["files"], *tables})
        digests = {name: {"sha256": _digest(published, name)} for name in names}
    except (BadIndex, KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadIndex(f"The data set {repo} holds no index of foir.") from error
    fetched = hub.download_files(repo, sha, names)
    for name in names:
        _check(repo, sha, fetched, name, digests[name])
    with exclusive_lock(out, create=True, wait=True):  # another one may pull into it just now
        if _whole_copy(out, repo, origin):
            return origin
        for name in manifest["files"]:
            _place(fetched / name, out / name)
        wanted = Index.of(out, manifest).thumbs()  # an index that cannot be opened takes no other's place
        for name in tables:
            _unpack(fetched / name, out, wanted)
        writer.write_manifest(out, manifest)
        remove_unused(out)
    return origin


def _own_manifest(published: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """A fresh manifest from those keys of a published one that a copy needs."""
    spaces = {
        str(name): {key: facts[key] for key in SPACE_KEYS if key in facts}
        for name, facts in published["spaces"].items()
    }
    manifest = {key: published[key] for key in KEYS} | {"spaces": spaces}
    files = {name: {"sha256": _digest(published, name)} for name in sorted(used_files(manifest))}
    return manifest | {"files": files, "root": None, "origin": origin, "changed": False}


def _digest(published: Mapping[str, Any], name: str) -> str:
    """The digest that a published manifest gives of a file of an index; a file of another name is refused."""
    digest = published["files"][name]["sha256"]
    if not CONTENT_NAME.fullmatch(name) or not isinstance(digest, str):
        raise BadIndex("a file without a digest, or of a name that no index uses")
    return digest


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds no index but other files; what a broken pull left of one is no obstacle.

    Raises:
        BadIndex: It does.
        Unavailable: It cannot be read.
    """
    try:
        names = {path.name for path in out.iterdir()} if out.exists() else set()
    except OSError as error:
        raise Unavailable(f"The folder {out} cannot be read: {error.strerror or error}.") from error
    foreign = sorted(name for name in names if name != "thumbs" and not OURS.fullmatch(name))
    if MANIFEST not in names and foreign:
        raise BadIndex(f"{out} is not empty and holds no index ({foreign[0]}): pull into another folder.")


def _whole_copy(out: Path, repo: str, origin: str) -> bool:
    """Whether `out` is a copy of this commit already, and nothing of it is lost.

    Raises:
        Unavailable: It is not a copy of this repository, or was changed here.
    """
    try:
        manifest = read_manifest(out)
    except BadIndex:
        return False
    known = str(manifest.get("origin") or "")
    if not known.startswith(f"hf://datasets/{repo}@"):
        raise Unavailable(f"{out} holds another index: pull into another folder.")
    if manifest.get("changed"):
        raise Unavailable(f"The copy {out} was changed here: pull into another folder.")
    try:
        return known == origin and all((out / thumb_name(thumb)).exists() for thumb in Index.open(out).thumbs())
    except BadIndex:
        return False


def _check(repo: str, sha: str, folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Check a fetched file; a damaged one is fetched once more, for the cache would give it out forever."""
    try:
        verify_file(folder, name, facts)
    except BadIndex:
        hub.download_files(repo, sha, [name], again=True)
        try:
            verify_file(folder, name, facts)
        except BadIndex as error:
            raise BadIndex(f"The file {name} of the data set {repo} is not what its manifest names.") from error


def _place(fetched: Path, path: Path) -> None:
    """Give a file its place in one step, as a link to the cache where that is on the same disk."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(fetched.resolve(), part)
    except OSError:
        shutil.copyfile(fetched, part)
    part.replace(path)


def _unpack(table: Path, out: Path, wanted: set[str]) -> None:
    """Write the thumbnails that the index names; what else a table holds is passed over, and nothing large is read."""
    try:
        with pq.ParquetFile(table) as file:
            for batch in file.iter_batches(16, columns=["jpeg"]):
                column = batch.column(0)
                if (pc.max(pc.binary_length(column)).as_py() or 0) > THUMB_BYTES:
                    raise BadIndex(f"{table.name} holds thumbnails larger than thumbnails are.")
                for jpeg in column.to_pylist():
                    if jpeg is not None and hashlib.sha256(jpeg).hexdigest() in wanted:
                        _check_picture(jpeg)
                        writer.write_thumb(out, jpeg)
    except (pa.ArrowException, KeyError, IndexError, TypeError, ValueError) as error:
        raise BadIndex(f"The thumbnails {table.name} cannot be read.") from error


def _check_picture(jpeg: bytes) -> None:
    """A thumbnail is a picture that browsers are given, so it has to be one."""
    try:
        images.read(jpeg, max_bytes=THUMB_BYTES, max_pixels=THUMB_PIXELS)
    except BadImage as error:
        raise BadIndex("A thumbnail is no picture.") from error
