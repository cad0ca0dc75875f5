"""Changing an index in place: pictures added, removed, or brought up to date with their folder.

Nothing that a reader has open is touched: rows that stay are kept in their files or copied to new ones, and one new
manifest is put in place at the end. Until then readers see the old index, afterwards the new one; `gc` removes what
only the old one used.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from pathlib import Path, PurePosixPath

from foir.errors import Unavailable
from foir.index import Index, Item, Object, writer
from foir.index.lock import exclusive_lock
from index_build import encoding as sight
from index_build import pipeline, shards
from index_build.encoding import Eyes
from index_build.shard_rewrite import Piece, cut_out, grouped, written
from index_build.sources.folder import cut, listing, shown


@dataclass(frozen=True)
class Changed:
    """Names of the files that were added, encoded again because they had changed, and removed; what was left out."""

    added: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rejected: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class _How:
    device: str
    dtype: str
    eyes: Eyes | None


def update(out: Path, *, device: str = "auto", dtype: str = "float32", eyes: Eyes | None = None) -> Changed:
    """Bring an index up to date with its folder: new and changed files encoded, missing ones dropped.

    A changed file keeps its id and loses its caption and objects, which were of the old picture.

    Args:
        out: The index.
        device: Where the encoders run.
        dtype: In which they compute.
        eyes: Take these in the place of the index's encoders.

    Raises:
        BadIndex: The index is damaged, or its encoder gives other features now.
        Unavailable: Its folder is not there, nothing of the index would be left, or it cannot be written.
    """
    with exclusive_lock(out):
        index = Index.open(out)
        root = _root(index)
        files, closed = listing(root, out)
        if not files:
            raise Unavailable(f"The folder {root} holds no pictures now: if its disk is not mounted, mount it first.")
        there = set(files)
        items = index.items()
        known = {item.file: item for item in items}
        out_of_sight = [entry["file"] for entry in closed]
        gone = {name for name in known.keys() - there if not any(_is(name, folder) for folder in out_of_sight)}
        again = [name for name in files if name in known and _differs(root / name, known[name])]
        new = [name for name in files if name not in known]
        wanted = [*((known[name].id, name) for name in again), *_numbered(index, items, new)]
        return _change(index, items, gone, wanted, [], closed, _How(device, dtype, eyes))


def add(
    out: Path, paths: Sequence[Path], *, device: str = "auto", dtype: str = "float32", eyes: Eyes | None = None
) -> Changed:
    """Add some pictures, or folders of them, that lie in the index's folder; what changed since is encoded again.

    Args:
        out: The index.
        paths: Files or folders.
        device: Where the encoders run.
        dtype: In which they compute.
        eyes: Take these in the place of the index's encoders.

    Raises:
        BadIndex: The index is damaged, or its encoder gives other features now.
        Unavailable: A path is not in the index's folder or holds no pictures, or the index cannot be written.
    """
    with exclusive_lock(out):
        index = Index.open(out)
        root = _root(index)
        files, closed = listing(root, out)
        items = index.items()
        known = {item.file: item for item in items}
        names: dict[str, None] = {}
        shut: dict[str, dict[str, str]] = {}
        for path in paths:
            asked = _name(root, path, out)
            found = [name for name in files if _is(name, asked)]
            if not found:
                raise Unavailable(f"{path} is no picture that foir takes, and holds none.")
            names |= dict.fromkeys(found)
            shut |= {entry["file"]: entry for entry in closed if _is(entry["file"], asked)}
        wanted = [(known[name].id, name) for name in names if name in known and _differs(root / name, known[name])]
        wanted += _numbered(index, items, [name for name in names if name not in known])
        others = [entry for entry in index.rejected() if entry["file"] not in {*map(shown, names), *shut}]
        how = _How(device, dtype, eyes)
        return _change(index, items, set(), wanted, others, list(shut.values()), how)


def remove(out: Path, names: Sequence[str]) -> Changed:
    """Remove pictures by their names in the index, or all those of a folder in it. The files themselves stay.

    Args:
        out: The index.
        names: As search results give them.

    Raises:
        BadIndex: The index is damaged.
        Unavailable: It has no such picture, nothing would be left of it, or it cannot be written.
    """
    with exclusive_lock(out):
        index = Index.open(out)
        items = index.items()
        gone: set[str] = set()
        for name in names:
            plain = PurePosixPath(name).as_posix()
            found = {item.file for item in items if name and _is(item.file, plain)}
            if not found:
                raise Unavailable(f"The index {out} has no picture {name}.")
            gone |= found
        return _change(index, items, gone, [], index.rejected(), [])


def _change(
    index: Index,
    items: Sequence[Item],
    gone: set[str],
    wanted: Sequence[tuple[int, str]],
    rejected: Sequence[dict[str, str]],
    closed: Sequence[dict[str, str]],
    how: _How | None = None,
) -> Changed:
    """Drop the pictures that are gone or wanted anew, add those that are wanted, and publish.

    `rejected` was left out before and still is; `closed` are folders that could not be listed now.
    """
    old = {item.file for item in items}
    fresh = {name for _, name in wanted}
    stay = [item for item in items if item.file not in gone | fresh]
    pieces = list(cut_out(index, items, gone | fresh))
    objects = [thing for item in stay for thing in index.objects(item.id)]
    turned_down, next_id = list(closed), _next_id(index, items)
    read: set[str] = set()
    made = _made(index, wanted, how) if how and wanted else shards.Made((), 0, ())
    for shard in made.shards:
        turned_down += shard.rejected
        objects += shard.objects
        read |= {item.file for item in shard.items}
        next_id = max([next_id, *(item.id + 1 for item in shard.items)])
        if shard.items:
            pieces.append(Piece.of(index.folder, shard))
    done = Changed(
        added=tuple(name for _, name in wanted if name in read - old),
        renewed=tuple(name for _, name in wanted if name in read & old),
        removed=tuple(sorted(gone | (fresh & old) - read)),
        rejected=tuple(turned_down),
    )
    left_out = sorted([*rejected, *turned_down], key=itemgetter("file"))
    if not pieces:
        raise Unavailable(f"Nothing of the index {index.folder} would be left: delete its folder instead.")
    if done.added or done.renewed or done.removed or left_out != sorted(index.rejected(), key=itemgetter("file")):
        _publish(index, pieces, left_out, objects, next_id)
    for record in made.records:  # those of a killed build stay, for it to go on
        record.unlink()
    with suppress(OSError):
        (index.folder / shards.PARTIAL).rmdir()
    return done


def _made(index: Index, wanted: Sequence[tuple[int, str]], how: _How) -> shards.Made:
    """Shards of the pictures that are wanted."""
    eyes = how.eyes or sight.of_index(index, device=how.device, dtype=how.dtype)
    runs, heads = cut(_root(index), wanted, pipeline.SHARD), bool(index.space("image").z)
    return shards.make(index.folder, eyes, runs, heads=heads, thumb_side=pipeline.Plan.thumb_side, dtype=how.dtype)


def _publish(
    index: Index, pieces: Sequence[Piece], rejected: Sequence[dict[str, str]], objects: Sequence[Object], next_id: int
) -> None:
    groups = [written(index.folder, group) for group in grouped(pieces, pipeline.SHARD)]
    spaces = {
        name: writer.SpaceFiles(
            space.encoder,
            space.revision,
            tuple(index.manifest["spaces"][name]["probe"]),
            shards=tuple(files[name] for files, _ in groups),
            heads=tuple(heads for _, heads in groups if heads) if name == "image" else (),
            recipe=space.recipe,
        )
        for name, space in index.spaces.items()
    }
    items = [item for piece in pieces for item in piece.items]
    writer.write_index(
        index.folder,
        spaces,
        items,
        rejected,
        index.manifest["root"],
        objects,
        next_id=next_id,
        origin=index.manifest.get("origin"),
    )


def _root(index: Index) -> Path:
    """The folder that an index was made of."""
    root = index.manifest["root"]
    if root is None:
        raise Unavailable(f"The index {index.folder} remembers no folder, so no pictures can be added to it.")
    folder = (index.folder / root).resolve()
    if not folder.is_dir():
        raise Unavailable(f"The folder {folder} of the index is not there: if its disk is not mounted, mount it first.")
    return folder


def _name(root: Path, path: Path, out: Path) -> str:
    """What a file or folder is called in an index of `root`; "." for the root itself."""
    place = path.parent.resolve() / path.name if path.name else path.resolve()  # a link is itself, not what it shows
    if not path.exists():
        raise Unavailable(f"There is no file {path}.")
    if not place.is_relative_to(root):
        raise Unavailable(f"{path} does not lie in {root}, the folder of the index: copy it there first.")
    if place.is_relative_to(out.resolve()):
        raise Unavailable(f"{path} lies in the index itself.")
    return place.relative_to(root).as_posix()


def _is(name: str, asked: str) -> bool:
    """Whether a name is the one asked for, or lies in that folder."""
    return asked == "." or name == asked or name.startswith(asked + "/")


def _numbered(index: Index, items: Sequence[Item], names: Sequence[str]) -> list[tuple[int, str]]:
    """New pictures with ids that no picture ever had."""
    return list(zip(count(_next_id(index, items)), names, strict=False))


def _next_id(index: Index, items: Sequence[Item]) -> int:
    known = index.manifest.get("next_id")  # indexes of earlier versions have none
    return known if isinstance(known, int) else 1 + max(item.id for item in items)


def _differs(path: Path, item: Item) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return True  # it is read again, and left out with the reason
    return (item.bytes, item.modified) != (stat.st_size, stat.st_mtime_ns)
