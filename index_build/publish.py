"""Putting an index on the Hugging Face Hub, where `foir.index.remote` finds it.

Two commits: first the files, which have names of their own and disturb nobody, then the manifest that names them, the
card, and the removal of what only the old index used. So every commit of the repository holds one whole index.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from foir import hub
from foir.errors import BadIndex, Unavailable
from foir.hub import NotOnHub
from foir.index import Index, writer
from foir.index.format import MANIFEST, OURS, digest, thumb_name
from foir.index.lock import exclusive_lock
from foir.index.remote import THUMB_SCHEMA
from index_build.maintenance import damages

THUMBS = 4096  # in a table: at most 10,000 files lie in a folder of the Hub
MADE = "<!-- Written by foir at each publishing; without this line the card is yours and stays as it is. -->"


def publish(folder: Path, repo: str, *, private: bool = False) -> str:
    """Publish an index with its thumbnails, or a newer state of one; the pictures' own files stay where they are.

    Args:
        folder: The index; every byte of it is checked first.
        repo: "owner/name" of the data set; HF_TOKEN must allow writing to it.
        private: Make the repository private, if it is made.

    Returns:
        Its address, pinned: `hf://datasets/USER/NAME@COMMIT`.

    Raises:
        BadIndex: The index is damaged.
        Unavailable: The repository holds something else, or the Hub refuses or cannot be reached; publishing again
            goes on behind what was sent.
    """
    there = _present(repo)
    with exclusive_lock(folder), tempfile.TemporaryDirectory(dir=folder.parent, prefix=".publish-") as temporary:
        for damage in damages(folder):
            raise BadIndex(damage)
        index, stage = Index.open(folder), Path(temporary)
        for name in index.manifest["files"]:
            (stage / name).symlink_to((folder / name).resolve())
        tables = [_table(stage, digests, folder) for digests in _batches(sorted(index.thumbs()))]
        files = {**index.manifest["files"], **{name: {"sha256": digest(stage / name)} for name in tables}}
        hub.upload_folder(repo, stage, "Files of the next index", private=private)
        writer.write_manifest(stage, {**index.manifest, "files": files, "thumbs": tables, "root": None, "origin": None})
        if not there.card:
            (stage / "README.md").write_text(card(index, repo), encoding="utf-8")
        gone = sorted(there.files - set(files))
        sha = hub.upload_folder(repo, stage, f"Index of {len(index)} pictures", replaces=gone)
    return f"hf://datasets/{repo}@{sha}"


@dataclass(frozen=True)
class _There:
    """What a repository holds: the files of an older state of the index, and whether its owner wrote the card."""

    files: frozenset[str] = frozenset()
    card: bool = False


def _present(repo: str) -> _There:
    """Look before writing.

    Raises:
        Unavailable: The repository holds something else than an index.
    """
    try:
        sha = hub.resolve_commit(repo)
    except NotOnHub:
        return _There()
    listed = hub.list_files(repo, sha)
    names = set(listed) - {".gitattributes", "README.md"}
    ours = {name for name in names if OURS.fullmatch(name)}
    if names - ours:
        raise Unavailable(f"The data set {repo} holds other files ({min(names - ours)}): publish to one of its own.")
    text = ""
    if "README.md" in listed:
        text = (hub.download_files(repo, sha, ["README.md"]) / "README.md").read_text("utf-8", errors="replace")
    return _There(frozenset(ours - {MANIFEST}), bool(text) and MADE not in text)


def card(index: Index, repo: str) -> str:
    """The repository's card: what this is, what made it, whose pictures they are, how to use it."""
    spaces = "\n".join(
        f"| `{name}` | {space.encoder} | `{space.revision}` | {len(space.reference_feature)} | {'yes' if space.z else 'no'} |"
        for name, space in index.spaces.items()
    )
    licences = "\n".join(
        f"| {source or 'not stated'} | {licence or 'not stated'} | {count} |"
        for source, licence, count in index.source_counts()
    )
    return f"""---
pretty_name: {repo.split("/")[-1]}
license: other
tags: [foir, image-retrieval, index]
viewer: false
size_categories: [{_size(len(index))}]
---

{MADE}

# {repo.split("/")[-1]}

An index of {len(index)} pictures for search that looks where you point, made with foir. It holds vectors and small
previews, not the pictures themselves; {len(index.rejected())} files were left out because they could not be read
(`*-rejected.jsonl` gives the reasons).

| space | encoder | revision | numbers a picture | head cache |
|---|---|---|---|---|
{spaces}

| pictures from | licence | how many |
|---|---|---|
{licences}

    FOIR_INDEX=hf://datasets/{repo} python app.py
    python -m index_build pull {repo} --out INDEX

Every file is named by the SHA-256 of its content in `manifest.json` and checked against it when it is opened.
"""


def _size(count: int) -> str:
    """The Hub's name for a number of rows."""
    bounds = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
    return next((name for bound, name in bounds if count < bound), "10M<n<100M")


def _batches(digests: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(digests)
    while batch := list(islice(rest, THUMBS)):
        yield batch


def _table(stage: Path, digests: Sequence[str], folder: Path) -> str:
    """A table of thumbnails, named by its content."""
    rows = [{"digest": digest, "jpeg": (folder / thumb_name(digest)).read_bytes()} for digest in digests]
    part = stage / "thumbs.part"
    pq.write_table(pa.Table.from_pylist(rows, schema=THUMB_SCHEMA), part, compression="none", use_dictionary=False)
    name = f"{digest(part)[:32]}-thumbs.parquet"
    part.rename(stage / name)
    return name
