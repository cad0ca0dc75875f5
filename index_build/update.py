"""Updating an index: images are added, removed, or encoded again because their files changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from foir.errors import Unavailable
from foir.index import Index, Item, local_record
from foir.index.lock import exclusive_lock
from foir.videos import split_key

from .changes import Changes, Encoding, UpdateResult, apply_changes
from .encoding import SpaceEncoders
from .outdated import follow_moves, outdated, refreshed
from .retries import known_rejections, remember_rejections
from .sources.folder import list_images, printable_name
from .sources.frames import with_frames

MAX_MISSING, MIN_MISSING = 0.5, 10  # share of an index's images, and number, from which on missing ones are not dropped


def update(
    out: Path,
    *,
    root: Path | None = None,
    check: bool = False,
    accept_missing: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    encoders: SpaceEncoders | None = None,
) -> UpdateResult:
    """Bring an index up to date with its folder: encode new and changed files, drop missing ones.

    A changed file keeps its id. It loses its caption and objects, which described the old image. A file that was
    renamed or moved within the folder keeps all, and is not encoded. A file that could not be read is tried again when
    it changed, or when a package was installed that reads more kinds of files.

    Args:
        out: The index.
        root: The folder of its images, where this machine does not know it: the index was moved, or comes from
            elsewhere.
        check: Read every file: other bytes under the same size and time are noticed, and damaged thumbnails repaired.
        accept_missing: Drop missing files even where they are most of the index.
        device: Where the encoders run.
        dtype: In which they compute; it may be another one than that of the index, whose vectors differ by rounding.
        encoders: Use these instead of the index's.

    Raises:
        BadIndex: The index is damaged, or its encoder gives other features now.
        Unavailable: Its folder is not known, does not exist or holds none of its images, most images are missing, none
            would be left, or the index cannot be written.
    """
    with exclusive_lock(out):
        index = Index.open(out)
        base = _root(index, root)
        files, unlisted = list_images(base, out)
        if not files:
            raise Unavailable(f"The folder {base} holds no images now: if its disk is not mounted, mount it first.")
        before = index.items()
        if base != index.root:
            if {item.file for item in before}.isdisjoint(files):
                raise Unavailable(f"The folder {base} holds none of the images of the index {out}.")
            known = local_record.is_own(out, index.manifest)
            local_record.commit(out, index.manifest if known else index.manifest.without_graph(), base)
        unreadable = [] if check else known_rejections(out, base, index.rejected(), files)
        passed_over = {entry["file"] for entry in unreadable}
        keys, damaged = with_frames(base, files, _by_file(before), passed_over)
        gone = {item.key for item in before} - set(keys)
        items = follow_moves(refreshed(index, base, keys, check=check), base, keys, gone)
        missing = {item.key for item in items} - set(keys)
        removed = {name for name in missing if not any(_contains(entry["file"], name) for entry in unlisted)}
        indexed = {item.file for item in items}
        vanished = {split_key(name)[0] for name in removed} - set(files)
        if len(vanished) > MAX_MISSING * len(indexed) and len(vanished) >= MIN_MISSING and not accept_missing:
            raise Unavailable(
                f"{len(vanished)} of the {len(indexed)} files of {out} are no longer in {base}: if their disk is not "
                "mounted, mount it; if they are gone for good, update it with --accept-missing."
            )
        # What is passed over takes its id all the same: others get those that they had if it were tried.
        wanted = [(id, key) for id, key in outdated(index, items, base, keys) if key not in passed_over]
        changes = Changes(removed, wanted, unreadable, [*unlisted, *damaged])
        done = apply_changes(index, items, changes, Encoding(base, device, dtype, encoders))
        done = replace(done, rejected=(*done.rejected, *unreadable))
        remember_rejections(out, base, done.rejected)
        return done


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
        keys, damaged = with_frames(root, list(names), _by_file(index.items()))
        items = refreshed(index, root, keys)
        left_out = [*unlisted_here.values(), *damaged]
        listed, current = set(names), set(keys)
        gone = {item.key for item in items if item.time is not None and item.file in listed} - current
        changes = Changes(gone, outdated(index, items, root, keys), rejected, left_out)
        return apply_changes(index, items, changes, Encoding(root, device, dtype, encoders))


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
            matches = {item.key for item in items if name and _contains(requested, item.key)}
            if not matches:
                raise Unavailable(f"The index {out} has no image {name}.")
            removed |= matches
        return apply_changes(index, items, Changes(removed, rejected=index.rejected()))


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


def _by_file(items: Sequence[Item]) -> dict[str, list[Item]]:
    """The frames of each video."""
    frames: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.time is not None:
            frames[item.file].append(item)
    return frames


def _contains(folder: str, name: str) -> bool:
    """Whether a key is the given one, or of a file in that folder, or of a frame of that video."""
    return folder == "." or folder in (name, split_key(name)[0]) or name.startswith(folder + "/")
