"""Indexes on the Hugging Face Hub: a data set repository that holds an index's files, its thumbnails in tables.

An index is taken at one commit. Each file is checked against the manifest before it gets its place, the manifest is put
in place last, so that a reader of the local copy sees the old index or the new one here too. What a repository says of
folders is not believed.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foir import hub
from foir.errors import BadIndex, FoirError, Unavailable
from foir.index import writer
from foir.index.format import MANIFEST, read_manifest, used_files, verify
from foir.index.lock import alone

ADDRESS = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^@]+))?/?")
THUMB_SCHEMA = pa.schema([("digest", pa.string()), ("jpeg", pa.binary())])


def located(address: str | Path) -> Path:
    """The folder of an index: itself, or the local copy of `hf://datasets/USER/NAME[@REVISION]`, pulled if need be.

    Raises:
        Unavailable: It cannot be fetched, and no copy is here.
        BadIndex: What was fetched is not what its manifest names.
    """
    if not str(address).startswith("hf:"):
        return Path(address)
    repo, revision = parsed(str(address))
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foir" / "indexes"
    out = caches / "--".join([*repo.split("/"), *([revision] if revision else [])])
    try:
        pull(repo, out, revision)
    except Unavailable:
        if not (out / MANIFEST).exists():
            raise  # else the copy of an earlier time serves, as it does offline
    return out


def parsed(address: str) -> tuple[str, str | None]:
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
        BadIndex: It is no index, or holds something else than its manifest names, also when fetched anew.
    """
    sha = hub.commit(repo, revision)
    origin = f"hf://datasets/{repo}@{sha}"
    if _origin(out) == origin:
        return origin
    try:
        manifest = read_manifest(hub.dataset(repo, sha, [MANIFEST]))
        names = _names(manifest)
    except (BadIndex, KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadIndex(f"The data set {repo} holds no index of foir.") from error
    fetched = hub.dataset(repo, sha, names)
    for name in names:
        _whole(repo, sha, fetched, name, manifest["files"].get(name, {}))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"The index {out} cannot be written: {error.strerror or error}.") from error
    with alone(out):
        tables = manifest.pop("thumbs", [])
        for name in names:
            if name in tables:
                _unpack(fetched / name, out)
            else:
                _place(fetched / name, out / name)
        files = {name: facts for name, facts in manifest["files"].items() if name not in tables}
        writer.put(out, manifest | {"files": files, "root": None, "origin": origin})
    return origin


def _names(manifest: dict[str, Any]) -> list[str]:
    """The files of an index in a repository; each has a digest, and none lies elsewhere."""
    names = sorted(used_files(manifest) | set(manifest.get("thumbs", [])))
    if any(Path(name).name != name or name not in manifest["files"] for name in names):
        raise BadIndex("a file without a digest, or outside the repository")
    manifest["files"] = {name: manifest["files"][name] for name in names}
    return names


def _origin(out: Path) -> str | None:
    try:
        origin = read_manifest(out).get("origin")
    except FoirError:
        return None
    return origin if isinstance(origin, str) else None


def _whole(repo: str, sha: str, folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Check a fetched file; a damaged one is fetched once more, for the cache would give it out forever."""
    try:
        verify(folder, name, facts)
    except BadIndex:
        hub.dataset(repo, sha, [name], again=True)
        try:
            verify(folder, name, facts)
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


def _unpack(table: Path, out: Path) -> None:
    """Write the thumbnails of a table; each gets the name of its content, whatever the table says."""
    try:
        for batch in pq.ParquetFile(table).iter_batches(256):
            for jpeg in batch.column("jpeg").to_pylist():
                writer.write_thumb(out, jpeg)
    except (pa.ArrowException, KeyError, TypeError, OSError) as error:
        raise BadIndex(f"The thumbnails {table.name} cannot be read.") from error
