"""Indexes on the Hugging Face Hub: a data set repository with an index's files, its thumbnails in tables.

An index is pulled at one commit. Each file is checked against the manifest before it is put in place; the manifest
comes last, so updates of the local copy are atomic too. Only listed keys of a published manifest are taken over.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foir import hub, images
from foir.errors import BadImage, BadIndex, FoirError, Unavailable, os_errors
from foir.index import local_record, writer
from foir.index.format import FORMAT, MANIFEST, OURS, thumb_name, verify_file
from foir.index.gc import remove_unused
from foir.index.lock import exclusive_lock
from foir.index.manifest import FileFacts, Manifest, read_manifest
from foir.index.reader import Index

ADDRESS = re.compile(rf"hf://datasets/({hub.NAME}/{hub.NAME})(?:@({hub.NAME}))?/?", re.ASCII)
THUMB_BYTES, THUMB_PIXELS = 2 * 2**20, 4_000_000
THUMB_SCHEMA = pa.schema([("digest", pa.string()), ("jpeg", pa.binary())])


def local_copy(address: str | Path) -> Path:
    """The folder of an index: itself, or the local copy of `hf://datasets/USER/NAME[@REVISION]`, brought up to date.

    Where it cannot be brought up to date, the existing copy is used, with a warning.

    Raises:
        Unavailable: It cannot be fetched, and there is no copy.
        BadIndex: The fetched files are not those of the manifest, and there is no copy.
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
        warnings.warn(f"{error} The existing copy is used.", stacklevel=2)
    return out


def local_folder(address: str | Path) -> Path:
    """The folder of an index, or of the copy of one on the Hub; see `local_copy`.

    Raises:
        Unavailable: The address is malformed.
    """
    if not str(address).startswith("hf:"):
        return Path(address)
    repo, revision = parse_address(str(address))
    return hub.cache_folder() / "indexes" / "--".join([*repo.split("/"), *([revision] if revision else [])])


def parse_address(address: str) -> tuple[str, str | None]:
    """Repository and revision of an address.

    Raises:
        Unavailable: The address is malformed.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise Unavailable(f"{address} is no address of an index: write hf://datasets/USER/NAME or ...@REVISION.")
    return match[1], match[2]


def pull(repo: str, out: Path, revision: str | None = None) -> str:
    """Fetch an index, or bring a local copy of it up to date; an interrupted pull resumes.

    Args:
        repo: "owner/name" of the data set.
        out: Folder for the copy.
        revision: Commit, tag or branch; the newest commit if left out.

    Returns:
        Its pinned address, `hf://datasets/USER/NAME@COMMIT`, which the copy's manifest keeps as `origin`.

    Raises:
        Unavailable: It cannot be fetched, or `out` cannot be written.
        BadIndex: The repository holds no index, or files that differ from its manifest even when fetched again; or
            `out` holds files of another kind.
    """
    sha = hub.resolve_commit(repo, revision)
    origin = f"hf://datasets/{repo}@{sha}"
    if _is_complete_copy(out, repo, origin):
        return origin
    _refuse_foreign(out)
    try:
        published = read_manifest(hub.download_files(repo, sha, [MANIFEST])).without_graph()
    except BadIndex as error:
        raise BadIndex(f"The data set {repo} holds no index of foir.") from error
    if published.store is not None:
        raise BadIndex(f"The rows of the data set {repo} are kept in a database: it cannot be pulled.")
    manifest, names = _own_manifest(published, origin), sorted(published.used_files)
    fetched = hub.download_files(repo, sha, names)
    for name in names:
        _check(repo, sha, fetched, name, published.files[name])
    with exclusive_lock(out, create=True, wait=True):  # another process may pull into it at the same time
        if _is_complete_copy(out, repo, origin):
            return origin
        for name in manifest.files:
            _place(fetched / name, out / name)
        thumbs = Index.of(out, manifest).thumbs()  # an index that cannot be opened replaces no other
        for name in published.thumbs:
            _unpack(fetched / name, out, thumbs)
        local_record.commit(out, manifest, root=None)
        remove_unused(out)
    return origin


def _own_manifest(published: Manifest, origin: str) -> Manifest:
    """The manifest of a copy: nothing is taken over but its files, its spaces and the next id."""
    return Manifest(
        format=FORMAT,
        items=published.items,
        objects=published.objects,
        rejected=published.rejected,
        regions=published.regions,
        spaces=published.spaces,
        next_id=published.next_id,
        files={name: published.files[name] for name in sorted(published.used_files - set(published.thumbs))},
        origin=origin,
    )


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder with other files and no index; the rest of an interrupted pull is accepted.

    Raises:
        BadIndex: It holds other files.
        Unavailable: It cannot be read.
    """
    with os_errors(f"The folder {out} cannot be read"):
        names = {path.name for path in out.iterdir()} if out.exists() else set()
    foreign = sorted(name for name in names if name != "thumbs" and not OURS.fullmatch(name))
    if MANIFEST not in names and foreign:
        raise BadIndex(f"{out} is not empty and holds no index ({foreign[0]}): pull into another folder.")


def _is_complete_copy(out: Path, repo: str, origin: str) -> bool:
    """Whether `out` is a complete copy of this commit.

    Raises:
        Unavailable: It is a copy of another repository, or was changed here.
    """
    try:
        manifest = read_manifest(out)
    except BadIndex:
        return False
    current = manifest.origin or ""
    if not current.startswith(f"hf://datasets/{repo}@"):
        raise Unavailable(f"{out} holds another index: pull into another folder.")
    if manifest.changed:
        raise Unavailable(f"The copy {out} was changed here: pull into another folder.")
    try:
        return current == origin and all((out / thumb_name(thumb)).exists() for thumb in Index.open(out).thumbs())
    except BadIndex:
        return False


def _check(repo: str, sha: str, folder: Path, name: str, facts: FileFacts) -> None:
    """Check a fetched file; a damaged one is fetched once more, since the cache would return it forever."""
    try:
        verify_file(folder, name, facts.sha256)
    except BadIndex:
        hub.download_files(repo, sha, [name], force=True)
        try:
            verify_file(folder, name, facts.sha256)
        except BadIndex as error:
            raise BadIndex(f"The file {name} of the data set {repo} is not what its manifest names.") from error


def _place(fetched: Path, path: Path) -> None:
    """Put a file in place in one step, as a link to the cache where both are on one disk."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(fetched.resolve(), part)
    except OSError:
        shutil.copyfile(fetched, part)
    writer.sync_file(part)  # `local_record.commit` syncs the folder
    part.replace(path)


def _unpack(table: Path, out: Path, thumbs: set[str]) -> None:
    """Write the thumbnails that the index names; other rows of the table are skipped, and no large one is read."""
    written: list[str] = []
    try:
        with pq.ParquetFile(table) as file:
            for batch in file.iter_batches(16, columns=["jpeg"]):
                column = batch.column(0)
                if (pc.max(pc.binary_length(column)).as_py() or 0) > THUMB_BYTES:
                    raise BadIndex(f"{table.name} holds thumbnails over {THUMB_BYTES} bytes.")
                for jpeg in column.to_pylist():
                    if jpeg is not None and hashlib.sha256(jpeg).hexdigest() in thumbs:
                        _check_picture(jpeg)
                        written.append(writer.write_thumb(out, jpeg))
        writer.sync_thumbs(out, written)
    except (pa.ArrowException, KeyError, IndexError, TypeError, ValueError) as error:
        raise BadIndex(f"The thumbnails {table.name} cannot be read.") from error


def _check_picture(jpeg: bytes) -> None:
    """Browsers are sent the thumbnails, so each has to be an image."""
    try:
        images.read(jpeg, max_bytes=THUMB_BYTES, max_pixels=THUMB_PIXELS)
    except BadImage as error:
        raise BadIndex("A thumbnail is no picture.") from error
