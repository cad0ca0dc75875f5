"""Updating an index in place: images are added, removed, or encoded again because their files changed.

Updates are atomic. Files that a reader has open are not touched: rows that stay are kept in their files or copied to
new ones, and one new manifest replaces the old one at the end. `gc` removes what only the old state used.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePosixPath

from foir.errors import BadIndex, Unavailable
from foir.index import Index, Item, Object, local_record, writer
from foir.index.lock import exclusive_lock
from foir.index.manifest import Manifest

from . import pipeline
from .encoding import LoadedEncoders, SpaceEncoders, load_index_encoders
from .local_executor import LocalExecutor
from .outdated import next_unused_id, outdated, refreshed
from .region_graph import RegionShard, write_graph
from .shard_rewrite import KeptRows, group_shards, keep_rows, merge_shards
from .shards import PARTIAL, ShardSet, write_shards
from .sources.folder import list_images, printable_name, split_files


@dataclass(frozen=True)
class UpdateResult:
    """Names of the files that were added, encoded again because they changed, and removed; the rejected ones."""

    added: tuple[str, ...] = ()
    reencoded: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rejected: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class _Encoding:
    """The folder of the images, where and in which dtype to encode them, or with which encoders."""

    root: Path
    device: str
    dtype: str
    encoders: SpaceEncoders | None

    def encode(self, index: Index, files: Sequence[tuple[int, str]]) -> ShardSet:
        """Write shards of the files (id, name)."""
        if not files:
            return ShardSet()
        encoders = self.encoders or load_index_encoders(index, device=self.device, dtype=self.dtype)
        if isinstance(encoders, LoadedEncoders):
            encoders = encoders.for_regions_of(index)
        if encoders.region_recipe != ("" if index.regions is None else index.regions.recipe):
            raise BadIndex(f"The encoders given for {index.folder} do not make the regions that it has.")
        chunks = split_files(self.root, files, pipeline.SHARD_SIZE)
        heads, side = bool(index.space("image").z), pipeline.Plan.thumb_side
        executor = LocalExecutor(encoders, index.folder, side)
        return write_shards(index.folder, executor, chunks, heads=heads, thumb_side=side)


@dataclass(frozen=True)
class _Changes:
    """What to change in an index.

    Attributes:
        removed: Names of images to drop.
        files: (id, name) of files to encode.
        rejected: Entries of files that were rejected earlier and are not tried again.
        unlisted: Entries of folders that could not be listed now.
    """

    removed: set[str]
    files: Sequence[tuple[int, str]] = ()
    rejected: Sequence[dict[str, str]] = ()
    unlisted: Sequence[dict[str, str]] = ()


def update(
    out: Path,
    *,
    root: Path | None = None,
    check: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    encoders: SpaceEncoders | None = None,
) -> UpdateResult:
    """Bring an index up to date with its folder: encode new and changed files, drop missing ones.

    A changed file keeps its id. It loses its caption and objects, which described the old image.

    Args:
        out: The index.
        root: The folder of its images, where this machine does not know it: the index was moved, or comes from
            elsewhere.
        check: Read every file: other bytes under the same size and time are noticed, and damaged thumbnails repaired.
        device: Where the encoders run.
        dtype: In which they compute; it may be another one than that of the index, whose vectors differ by rounding.
        encoders: Use these instead of the index's.

    Raises:
        BadIndex: The index is damaged, or its encoder gives other features now.
        Unavailable: Its folder is not known, does not exist or holds none of its images, no image would be left, or
            the index cannot be written.
    """
    with exclusive_lock(out):
        index = Index.open(out)
        base = _root(index, root)
        files, unlisted = list_images(base, out)
        if not files:
            raise Unavailable(f"The folder {base} holds no images now: if its disk is not mounted, mount it first.")
        names = {item.file for item in index.items()}
        if base != index.root:
            if names.isdisjoint(files):
                raise Unavailable(f"The folder {base} holds none of the images of the index {out}.")
            known = local_record.is_own(out, index.manifest)
            local_record.commit(out, index.manifest if known else index.manifest.without_graph(), base)
        items = refreshed(index, base, files, check=check)
        missing = names - set(files)
        removed = {name for name in missing if not any(_contains(entry["file"], name) for entry in unlisted)}
        changes = _Changes(removed, outdated(index, items, base, files), (), unlisted)
        return _apply(index, items, changes, _Encoding(base, device, dtype, encoders))


def add(
    out: Path,
    paths: Sequence[Path],
    *,
    device: str = "auto",
    dtype: str = "auto",
    encoders: SpaceEncoders | None = None,
) -> UpdateResult:
    """Add images, or folders of them, that lie in the folder of the index. Those that changed are encoded again.

    Args:
        out: The index.
        paths: Files or folders.
        device: Where the encoders run.
        dtype: In which they compute; it may be another one than that of the index, whose vectors differ by rounding.
        encoders: Use these instead of the index's.

    Raises:
        BadIndex: The index is damaged, or its encoder gives other features now.
        Unavailable: A path lies outside the folder or holds no images, or the index cannot be written.
    """
    with exclusive_lock(out):
        index = Index.open(out)
        root = _root(index, None)
        files, unlisted = list_images(root, out)
        names: dict[str, None] = {}
        unlisted_here: dict[str, dict[str, str]] = {}
        for path in paths:
            requested = _relative_name(root, path, out)
            matches = [name for name in files if _contains(requested, name)]
            if not matches:
                raise Unavailable(f"{path} is not an image that foir reads, and holds none.")
            names |= dict.fromkeys(matches)
            unlisted_here |= {entry["file"]: entry for entry in unlisted if _contains(requested, entry["file"])}
        tried = {*map(printable_name, names), *unlisted_here}
        rejected = [entry for entry in index.rejected() if entry["file"] not in tried]
        items = refreshed(index, root, names)
        changes = _Changes(set(), outdated(index, items, root, list(names)), rejected, list(unlisted_here.values()))
        return _apply(index, items, changes, _Encoding(root, device, dtype, encoders))


def remove(out: Path, names: Sequence[str]) -> UpdateResult:
    """Remove images, or all images of a folder, by their names in the index. The files themselves stay.

    Args:
        out: The index.
        names: As search results give them.

    Raises:
        BadIndex: The index is damaged.
        Unavailable: It has no such image, no image would be left, or the index cannot be written.
    """
    with exclusive_lock(out):
        index = Index.open(out)
        items = index.items()
        removed: set[str] = set()
        for name in names:
            requested = PurePosixPath(name).as_posix()
            matches = {item.file for item in items if name and _contains(requested, item.file)}
            if not matches:
                raise Unavailable(f"The index {out} has no image {name}.")
            removed |= matches
        return _apply(index, items, _Changes(removed, rejected=index.rejected()))


def _apply(index: Index, items: Sequence[Item], changes: _Changes, encoding: _Encoding | None = None) -> UpdateResult:
    """Drop and encode images, and publish the new state if it differs from the old one."""
    old, requested = {item.file for item in items}, [name for _, name in changes.files]
    dropped = changes.removed | set(requested)
    shards = list(keep_rows(index, items, dropped))
    objects = [known for item in items if item.file not in dropped for known in index.objects(item.id)]
    encoded = encoding.encode(index, changes.files) if encoding else ShardSet()
    shards += [
        KeptRows(shard.items, shard.vectors, shard.heads, shard.regions) for shard in encoded.shards if shard.items
    ]
    readable = {item.file for item in encoded.items}
    result = UpdateResult(
        added=tuple(name for name in requested if name in readable - old),
        reencoded=tuple(name for name in requested if name in readable & old),
        removed=tuple(sorted(changes.removed | (set(requested) & old) - readable)),
        rejected=(*changes.unlisted, *encoded.rejected),
    )
    if not shards:
        raise Unavailable(f"No image of the index {index.folder} would be left: delete its folder instead.")
    rejected = sorted([*changes.rejected, *result.rejected], key=itemgetter("file"))
    rejected_before = sorted(index.rejected(), key=itemgetter("file"))
    has_news = result.added or result.reencoded or result.removed or items != index.items()
    if has_news or rejected != rejected_before:
        next_id = max([next_unused_id(index, items), *(item.id + 1 for item in encoded.items)])
        gone = [item.id for item in items if item.file in dropped]
        new = [([item.id for item in shard.items], shard.regions) for shard in encoded.shards if shard.regions]
        manifest = _write(index, shards, rejected, [*objects, *encoded.objects], next_id, (gone, new))
        local_record.commit(index.folder, manifest, encoding.root if encoding else index.root)
    for record in encoded.records:  # those of a killed build stay, for it to resume
        record.unlink()
    with suppress(OSError):
        (index.folder / PARTIAL).rmdir()
    return result


def _write(
    index: Index,
    shards: Sequence[KeptRows],
    rejected: Sequence[dict[str, str]],
    objects: Sequence[Object],
    next_id: int,
    regions_changed: tuple[Sequence[int], Sequence[RegionShard]],
) -> Manifest:
    """Write the tables, and the shards where they changed.

    `regions_changed` are the ids whose old regions no longer count, and the shards with new ones.
    """
    groups = group_shards(shards, pipeline.SHARD_SIZE)
    merged = [merge_shards(index.folder, group) for group in groups]
    spaces = {
        name: facts.model_copy(
            update={
                "shards": tuple(shard.vectors[name] for shard in merged),
                "heads": tuple(shard.heads for shard in merged if shard.heads) if name == "image" else (),
            }
        )
        for name, facts in index.manifest.spaces.items()
    }
    items, old = [item for shard in shards for item in shard.items], index.manifest
    regions = None
    if old.regions is not None:
        files = tuple(shard.regions for shard in merged if shard.regions)
        ids = [[item.id for shard in group for item in shard.items] for group in groups]
        gone, new = regions_changed
        # A graph that this machine did not write is not opened.
        previous = old.regions.graph if index.regions is not None and index.regions.graph is not None else None
        shards_of_ids = list(zip(ids, files, strict=True))
        graph = write_graph(index.folder, shards_of_ids, previous=previous, changes=new, removed=gone)
        regions = old.regions.model_copy(update={"shards": files, "graph": graph})
    return writer.build_manifest(
        index.folder, spaces, items, rejected, objects, next_id=next_id, regions=regions, previous=old
    )


def _root(index: Index, root: Path | None) -> Path:
    """The image folder of an index: the given one, or the one that this machine recorded."""
    folder = root or index.root
    if folder is None:
        raise Unavailable(
            f"The folder of the index {index.folder} is not known on this machine: "
            f"foir index update {index.folder} --root FOLDER sets it."
        )
    if not folder.is_dir():
        raise Unavailable(f"The folder {folder} of the index does not exist: if its disk is not mounted, mount it.")
    return folder.resolve()


def _relative_name(root: Path, path: Path, out: Path) -> str:
    """The name of a file or folder in an index of `root`; "." for the root itself."""
    if not path.exists():
        raise Unavailable(f"There is no file {path}.")
    absolute = path.parent.resolve() / path.name if path.name else path.resolve()  # the last link is not followed
    if not absolute.is_relative_to(root):
        raise Unavailable(f"{path} does not lie in {root}, the folder of the index: copy it there first.")
    if absolute.is_relative_to(out.resolve()):
        raise Unavailable(f"{path} lies in the index itself.")
    return absolute.relative_to(root).as_posix()


def _contains(folder: str, name: str) -> bool:
    """Whether a name is the given one, or lies in that folder."""
    return folder == "." or name == folder or name.startswith(folder + "/")
