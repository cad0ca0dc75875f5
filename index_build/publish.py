"""Publishing an index on the Hugging Face Hub, where `foir.index.remote` opens it.

Publishing makes two commits: first the new files, whose names clash with no others, then the manifest that names them,
the card, and the removal of files that only the old index used. So every commit of the repository is a whole index.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from foir import hub
from foir.encoders import weight_terms
from foir.errors import BadIndex, Unavailable
from foir.hub import NotOnHub
from foir.index import Index, Item, writer
from foir.index.format import MANIFEST, OURS, digest, thumb_name
from foir.index.lock import exclusive_lock
from foir.index.manifest import FileFacts, Manifest
from foir.index.remote import THUMB_SCHEMA

from .maintenance import find_damage

TABLE_THUMBS = 4096  # in a table: a folder of the Hub holds at most 10,000 files
CREDENTIALS = re.compile(r"(\w://)[^/\s]*@")  # user and password of an address
CARD_MARK = "<!-- Written by foir at each publishing; without this line the card is yours and stays as it is. -->"


def publish(folder: Path, repo: str, *, private: bool = True, keep_paths: bool = False) -> str:
    """Publish an index with its thumbnails, or a newer state of one. The images themselves are not uploaded.

    Names of files and folders, sizes, times, hashes of files and facts of the camera stay here.

    Args:
        folder: The index. Every byte of it is verified first.
        repo: "owner/name" of the data set; HF_TOKEN must allow writing to it.
        private: Make the repository private if it is created.
        keep_paths: Publish the names of the images in the indexed folder, and those that were left out.

    Returns:
        Its address at the new commit: `hf://datasets/USER/NAME@COMMIT`.

    Raises:
        BadIndex: The index is damaged.
        Unavailable: The repository holds something else, or the Hub refuses or cannot be reached. Publishing again
            resumes the upload.
    """
    published = _inspect_repo(repo)
    with exclusive_lock(folder), tempfile.TemporaryDirectory(dir=folder.parent, prefix=".publish-") as temporary:
        for damage in find_damage(folder):
            raise BadIndex(damage)
        index, stage = Index.open(folder), Path(temporary)
        manifest = _public_manifest(index, stage, keep_paths=keep_paths)
        thumbs = sorted(index.thumbs())
        tables = [
            _write_thumb_table(stage, thumbs[start : start + TABLE_THUMBS], folder)
            for start in range(0, len(thumbs), TABLE_THUMBS)
        ]
        files = manifest.files | {name: FileFacts(sha256=digest(stage / name)) for name in tables}
        hub.upload_folder(repo, stage, "Files of the next index", private=private)
        writer.write_manifest(stage, manifest.model_copy(update={"files": files, "thumbs": tuple(tables)}))
        if not published.own_card:
            (stage / "README.md").write_text(card(index, repo), encoding="utf-8")
        unused = sorted(published.files - set(files))
        commit = hub.upload_folder(repo, stage, f"Index of {len(index)} images", replaces=unused)
    return f"hf://datasets/{repo}@{commit}"


def _public_manifest(index: Index, stage: Path, *, keep_paths: bool) -> Manifest:
    """Lay out the files to publish and return their manifest: the index's own matrices, and tables without secrets."""
    old = index.manifest.without_graph()
    for name in old.used_files - {old.items, old.objects, old.rejected}:
        (stage / name).symlink_to((index.folder / name).resolve())
    items = [_public_item(item, keep_paths=keep_paths) for item in index.items()]
    objects = [
        replace(known, source=_public_source(known.source)) for item in items for known in index.objects(item.id)
    ]
    rejected = index.rejected() if keep_paths else []
    return writer.build_manifest(stage, old.spaces, items, rejected, objects, next_id=old.next_id, regions=old.regions)


def _public_item(item: Item, *, keep_paths: bool) -> Item:
    return Item(
        id=item.id,
        file=item.file if keep_paths else f"image-{item.id}",
        width=item.width,
        height=item.height,
        caption=item.caption,
        source=_public_source(item.source),
        licence=item.licence,
        thumb=item.thumb,
        time=item.time,
    )


def _public_source(source: str | None) -> str | None:
    """A source without the user and password of an address; none where it is a server at home."""
    return None if not source or source.startswith("immich") else CREDENTIALS.sub(r"\1", source)


@dataclass(frozen=True)
class _Published:
    """A repository: the files of an older state of the index, and whether its owner wrote the card."""

    files: frozenset[str] = frozenset()
    own_card: bool = False


def _inspect_repo(repo: str) -> _Published:
    """List a repository before anything is written to it.

    Raises:
        Unavailable: It holds something else than an index.
    """
    try:
        commit = hub.resolve_commit(repo)
    except NotOnHub:
        return _Published()
    files = hub.list_files(repo, commit)
    names = set(files) - {".gitattributes", "README.md"}
    ours = {name for name in names if OURS.fullmatch(name)}
    if names - ours:
        raise Unavailable(f"The data set {repo} holds other files ({min(names - ours)}): publish to a new one.")
    text = ""
    if "README.md" in files:
        text = (hub.download_files(repo, commit, ["README.md"]) / "README.md").read_text("utf-8", errors="replace")
    return _Published(frozenset(ours - {MANIFEST}), bool(text) and CARD_MARK not in text)


def card(index: Index, repo: str) -> str:
    """The card of the repository: contents, encoders, licences of the images, and how to use the index."""
    spaces = "\n".join(
        f"| `{name}` | {space.encoder} | `{space.revision}` | {len(space.reference_feature)} "
        f"| {'yes' if space.z else 'no'} |"
        for name, space in index.spaces.items()
    )
    licences = "\n".join(
        f"| {_public_source(source) or 'not stated'} | {licence or 'not stated'} | {count} |"
        for source, licence, count in index.source_counts()
    )
    terms = "".join(f"\n{sentence}\n" for sentence in weight_terms(space.encoder for space in index.spaces.values()))
    return f"""---
pretty_name: {repo.split("/")[-1]}
license: other
tags: [foir, image-retrieval, index]
viewer: false
size_categories: [{_size(len(index))}]
---

{CARD_MARK}

# {repo.split("/")[-1]}

An index of {len(index)} images for search that looks where you point, built with foir. It holds vectors and
thumbnails, not the images themselves. {len(index.rejected())} unreadable files were left out.

| space | encoder | revision | dimensions | head cache |
|---|---|---|---|---|
{spaces}

| source | licence | images |
|---|---|---|
{licences}
{terms}
    FOIR_INDEX=hf://datasets/{repo} python app.py
    python -m index_build pull {repo} --out INDEX

`manifest.json` gives the SHA-256 of every file. Each file is checked against it when the index is opened.
"""


def _size(count: int) -> str:
    """The Hub's name for a number of rows."""
    bounds = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
    return next((name for bound, name in bounds if count < bound), "10M<n<100M")


def _write_thumb_table(stage: Path, digests: Sequence[str], folder: Path) -> str:
    """Write a table of thumbnails; returns its name, a hash of its content."""
    rows = [{"digest": digest, "jpeg": (folder / thumb_name(digest)).read_bytes()} for digest in digests]
    part = stage / "thumbs.part"
    pq.write_table(pa.Table.from_pylist(rows, schema=THUMB_SCHEMA), part, compression="none", use_dictionary=False)
    name = f"{digest(part)[:32]}-thumbs.parquet"
    part.rename(stage / name)
    return name
