"""Groups of images that are the same, nearly the same, or of one burst."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from foir.errors import FoirError
from foir.index import Index, Item

Kind = Literal["exact", "near", "burst"]
KINDS: tuple[Kind, ...] = ("exact", "near", "burst")
CANDIDATE, ALIKE = 0.85, 0.93  # cosine of encoders' vectors, and correlation of small images, of nearly the same image
BURST_SECONDS, BURST = 3, 0.7  # between two shots of a burst, and the cosine of their vectors
SIDE = 24  # pixels of the small images
ROWS = 1024  # that are compared with all others at a time


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that belong together, the best first: with most pixels, then stars, then bytes."""

    kind: Kind
    items: tuple[Item, ...]


def find_duplicates(index: Index, kinds: Sequence[Kind] = KINDS) -> list[DuplicateGroup]:
    """Groups of each kind. An image that is in a group of an earlier kind is only there, except for the best of it.

    Args:
        index: An index. Its thumbnails are read where images may be nearly the same.
        kinds: "exact": files of the same bytes, videos too. "near": the same image in another size, quality or format,
            or with small changes. "burst": shots of one camera within seconds.
    """
    items = index.items()
    first = {item.file: row for row, item in reversed(list(enumerate(items)))}
    links = np.array([_is_link(index, item) for item in items], bool)
    stills = np.array([item.time is None for item in items], bool) & ~links
    frames = np.isin(np.arange(len(items)), list(first.values())) & ~links  # a video's first frame stands for it
    files = stills | frames
    spare = np.zeros(len(items), bool)
    groups: list[DuplicateGroup] = []
    for kind in KINDS:
        if kind not in kinds:
            continue
        wanted = ~spare & (files if kind == "exact" else stills)
        for rows in _components(len(items), _PAIRS[kind](index, items, wanted)):
            best_first = sorted(rows, key=lambda row: _rank(items[row]))
            spare[best_first[1:]] = True
            groups.append(DuplicateGroup(kind, tuple(items[row] for row in best_first)))
    return groups


def _is_link(index: Index, item: Item) -> bool:
    """Whether an item's file is only a name of another one."""
    return index.root is not None and (index.root / item.file).is_symlink()


def _rank(item: Item) -> tuple[int, int, int, int]:
    return -item.width * item.height, -(item.rating or 0), -(item.bytes or 0), item.id


def _exact(index: Index, items: Sequence[Item], wanted: np.ndarray) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for row in np.flatnonzero(wanted).tolist():
        content = items[row].content
        if content is not None and first.setdefault(content, row) != row:
            yield first[content], row


def _near(index: Index, items: Sequence[Item], wanted: np.ndarray) -> Iterator[tuple[int, int]]:
    small: dict[int, np.ndarray] = {}
    for a, b in _similar(index, np.flatnonzero(wanted), CANDIDATE):
        for row in (a, b):
            if row not in small:
                small[row] = _small(index, items[row])
        if float(small[a] @ small[b]) >= ALIKE:
            yield a, b


def _burst(index: Index, items: Sequence[Item], wanted: np.ndarray) -> Iterator[tuple[int, int]]:
    by_camera: dict[str | None, list[tuple[int, int]]] = defaultdict(list)
    for row in np.flatnonzero(wanted).tolist():
        if items[row].taken_from == "exif":
            by_camera[items[row].camera].append((items[row].taken or 0, row))
    for shots in by_camera.values():
        shots.sort()
        for (earlier, a), (later, b) in zip(shots, shots[1:], strict=False):
            if later - earlier <= BURST_SECONDS:
                one, other = index.vectors("image", [items[a].id, items[b].id])
                if float(one @ other) >= BURST:
                    yield a, b


_PAIRS = {"exact": _exact, "near": _near, "burst": _burst}


def _similar(index: Index, rows: np.ndarray, least: float) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose vectors have at least this cosine."""
    from foir.index.mmap import gather

    vectors = gather(index.space().shards, rows.tolist())
    for start in range(0, len(rows), ROWS):
        scores = vectors[start : start + ROWS] @ vectors[start:].T
        for a, b in np.argwhere(np.triu(scores >= least, 1)).tolist():
            yield int(rows[start + a]), int(rows[start + b])


def _small(index: Index, item: Item) -> np.ndarray:
    """A small image as a unit vector without its mean; zeros where the thumbnail is damaged."""
    try:
        with Image.open(index.thumb(item), formats=("JPEG",)) as thumb:
            values = np.asarray(thumb.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()
    except (OSError, UnidentifiedImageError, FoirError):
        return np.zeros(3 * SIDE * SIDE, np.float32)
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


def _components(count: int, pairs: Iterator[tuple[int, int]]) -> list[list[int]]:
    """Rows that pairs join, of two and more, in the order of their first."""
    found = np.array(list(pairs), int).reshape(-1, 2)
    graph = coo_array((np.ones(len(found), bool), (found[:, 0], found[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    members: dict[int, list[int]] = defaultdict(list)
    for row in np.unique(found).tolist():
        members[int(labels[row])].append(row)
    return sorted(members.values())
