"""Reading an index in files: `Index.open` verifies every file, maps the vectors and reads the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foir.arguments import checked
from foir.errors import BadIndex, FoirError, Unavailable, describe_os_error
from foir.index import local_record, spaces, tables
from foir.index.digest_cache import verified_files
from foir.index.filters import parse_filters
from foir.index.format import BOX, ITEM_SCHEMA, has_linked_thumbs, is_thumb_intact, thumb_name
from foir.index.manifest import Manifest, read_manifest
from foir.index.mmap import gather
from foir.index.probe import probe_tables
from foir.index.records import Background, Facets, Item, Object, Regions, Space

_UNFIT = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    pa.ArrowException,
)


class Index:
    """An opened index. Immutable and safe to share between threads.

    Attributes:
        folder: Where it lies.
        manifest: Its manifest.
        spaces: Its spaces by name.
        regions: Vectors of parts of its images, if it has any.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        items: pa.Table,
        objects: pa.Table,
        rejected: Sequence[dict[str, str]],
        spaces: Mapping[str, Space],
        regions: Regions | None = None,
    ) -> None:
        self.folder, self.manifest, self.spaces, self.regions = folder, manifest, spaces, regions
        self.background: Background | None = None
        self._items, self._objects, self._rejected = items, objects, rejected

    @classmethod
    @checked
    def open(cls, folder: Path | str) -> Index:
        """Open and verify an index; `foir.index.digest_cache` says which files are not hashed again.

        Raises:
            BadIndex: It is absent, of another format, incomplete, or any byte of it was changed.
            Unavailable: It cannot be read.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        while True:
            try:
                return cls.of(folder, manifest)
            except BadIndex:
                previous, manifest = manifest, read_manifest(folder)
                if previous == manifest:
                    raise  # else it was updated in the meantime, and the files of its old state may be gone

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> Index:
        """Open the index that a manifest describes, whether the manifest is in place or not; see `open`."""
        if manifest.items is None:
            raise BadIndex(f"The rows of the index {folder} are kept in a database, not in files.")
        if has_linked_thumbs(folder):
            raise BadIndex(f"The thumbnails of {folder} are a link to another folder: remove the link.")
        try:
            with verified_files(folder, manifest) as known:
                spaces.raise_file_limit(len(manifest.files))
                by_name = {name: spaces.read_space(folder, facts) for name, facts in manifest.spaces.items()}
                rows = {sum(map(len, space.shards)) for space in by_name.values()}
                if len(rows) != 1:
                    raise BadIndex(f"The spaces of the index {folder} have different numbers of vectors.")
                regions = spaces.read_regions(
                    folder, manifest.regions, by_name["image"], own=local_record.is_own(folder, manifest)
                )
                if not known:
                    probe_tables(folder, manifest.items, manifest.objects, *rows)
                items = tables.read_items(folder, manifest.items, *rows)
                objects = tables.read_objects(folder, manifest.objects, len(items))
                rejected = tables.read_rejected(folder, manifest.rejected)
            index = cls(folder, manifest, items, objects, rejected, by_name, regions)
            _ = index.root  # now: later updates replace the record
            return index
        except FoirError:
            raise
        except FileNotFoundError as error:  # removed since it was verified
            raise BadIndex(f"The index {folder} lacks a file: rebuild it.") from error
        except OSError as error:
            raise Unavailable(describe_os_error(f"The index {folder} cannot be read", error)) from error
        except _UNFIT as error:
            raise BadIndex(f"The index {folder} does not fit its own manifest: rebuild it.") from error

    def __len__(self) -> int:
        return len(self._items)

    @cached_property
    def root(self) -> Path | None:
        """The folder of its images, if this machine indexed it; see `foir.index.local_record`."""
        return local_record.root_of(self.folder, self.manifest)

    @checked
    def item(self, row: int) -> Item:
        """The image in a row of the matrices.

        Raises:
            BadIndex: There is no such row.
        """
        if not 0 <= row < len(self):
            raise BadIndex(f"The index has {len(self)} rows, so none of this number.")
        return Item(**{name: self._items[name][row].as_py() for name in ITEM_SCHEMA.names})

    @checked
    def get(self, id: int) -> Item:
        """The image of an id; see `row`."""
        return self.item(self.row(id))

    @checked
    def sample(self, count: int) -> list[Item]:
        """`count` images, evenly over the rows; all where there are fewer."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(max(count, 0), len(self))).astype(int))
        return [self.item(int(row)) for row in rows]

    @checked
    def vectors(self, name: str, ids: Sequence[int]) -> np.ndarray:
        """Unit vectors of some images in a space, float32 [n, dim]; see `row` and `space`."""
        return gather(self.space(name).shards, [self.row(id) for id in ids])

    @checked
    def head_outputs(self, id: int) -> np.ndarray:
        """CLS head outputs of an image from the head cache, float32 [h, d_k]."""
        return gather(self.space().z, [self.row(id)])[0]

    @checked
    def subset(self, rows: Sequence[int]) -> Index:
        """Some rows of it, in memory."""
        taken = np.asarray(rows, np.int64).reshape(-1)

        def part(shards: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
            return (gather(shards, taken),) if shards else ()

        spaces = {
            name: replace(space, shards=part(space.shards), z=part(space.z), residual=part(space.residual))
            for name, space in self.spaces.items()
        }
        regions = self.regions.subset(taken.tolist()) if self.regions is not None and len(taken) else None
        return Index(
            self.folder, self.manifest, self._items.take(taken), self._objects, self._rejected, spaces, regions
        )

    @checked
    def excluded_mask(self, filters: Mapping[str, str | int] | None) -> np.ndarray:
        """Rows of images that do not pass the filters, bool [n].

        Raises:
            BadPrompt: See `foir.index.filters.checked_filters`.
        """
        excluded = np.zeros(len(self), bool)
        for condition in parse_filters(filters):
            excluded |= ~condition.passes(self._items)
        return excluded

    def items(self) -> list[Item]:
        """All images, in the order of the matrices."""
        return [Item(**row) for row in self._items.to_pylist()]

    @cached_property
    def _rows_of_ids(self) -> tuple[np.ndarray, np.ndarray | None]:
        """All ids ascending, and their rows; None for the rows where ids ascend by row, as in every new build."""
        ids = self._items["id"].to_numpy()
        if (np.diff(ids) > 0).all():
            return ids, None
        order = np.argsort(ids)
        return ids[order], order

    def __contains__(self, id: int) -> bool:
        return self._row(id) is not None

    @checked
    def row(self, id: int) -> int:
        """The row of an item id.

        Raises:
            BadIndex: The index has no such item.
        """
        row = self._row(id)
        if row is None:
            raise BadIndex(f"The index has no picture with id {id}.")
        return row

    def _row(self, id: int) -> int | None:
        ids, rows = self._rows_of_ids
        place = int(np.searchsorted(ids, id)) if -(2**63) <= id < 2**63 else len(ids)
        if place == len(ids) or ids[place] != id:
            return None
        return place if rows is None else int(rows[place])

    @cached_property
    def _objects_of(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the object table sorted by image id, and those ids."""
        ids = self._objects["item"].to_numpy()
        order = np.argsort(ids, kind="stable")
        return order, ids[order]

    @checked
    def objects(self, id: int) -> tuple[Object, ...]:
        """The known objects of an image; none where the index was built without annotations."""
        order, ids = self._objects_of
        start, end = np.searchsorted(ids, [id, id + 1])
        rows = self._objects.take(order[start:end]).to_pylist() if start < end else []
        return tuple(Object(box=tuple(row.pop(corner) for corner in BOX), **row) for row in rows)

    @checked
    def space(self, name: str = "image") -> Space:
        """A space by name.

        Raises:
            BadIndex: The index does not have it.
        """
        if name not in self.spaces:
            raise BadIndex(f"The index has no {name!r} space; it has {', '.join(self.spaces) or 'none'}.")
        return self.spaces[name]

    def rejected(self) -> list[dict[str, str]]:
        """`file` and `reason` of every file that was left out."""
        return list(self._rejected)

    def source_counts(self) -> list[tuple[str | None, str | None, int]]:
        """Number of images by source and licence, the most frequent first."""
        counts = self._items.group_by(["source", "licence"]).aggregate([([], "count_all")])
        rows = [(row["source"], row["licence"], int(row["count_all"])) for row in counts.to_pylist()]
        return sorted(rows, key=lambda row: -row[2])

    def texts(self) -> list[tuple[str | None, str | None, str]]:
        """Caption, keywords and file of each image."""
        return list(zip(*(self._items[name].to_pylist() for name in ("caption", "keywords", "file")), strict=True))

    def facets(self) -> Facets:
        """What its images can be narrowed to."""
        cameras = pc.unique(self._items["camera"]).drop_null().to_pylist()
        files = pc.unique(self._items["file"]).to_pylist() if self._items["file"] else []
        dated = pc.any(pc.equal(self._items["taken_from"], "exif")).as_py() is True
        return Facets.of(files, cameras, dated=dated)

    @property
    def bytes(self) -> int:
        """Size of vectors and tables on disk, without thumbnails."""
        return sum((self.folder / name).stat().st_size for name in self.manifest.files)

    def thumbs(self) -> set[str]:
        """The digests of all thumbnails."""
        return set(self._items["thumb"].to_pylist())

    @checked
    def thumb(self, item: Item) -> Path:
        """The thumbnail of an item, checked against its digest.

        Raises:
            BadIndex: It is missing or damaged.
        """
        if not is_thumb_intact(self.folder, item.thumb):
            raise BadIndex(f"The thumbnail of {item.file} is missing or damaged: rebuild the index.")
        return self.folder / thumb_name(item.thumb)

    @checked
    def picture(self, item: Item) -> Path:
        """The file of an item where this machine indexed its folder, else its thumbnail.

        Raises:
            BadIndex: Neither exists.
        """
        path = self.original(item)
        return self.thumb(item) if path is None else path.resolve()

    def original(self, item: Item) -> Path | None:
        """The file of an item, perhaps a link; None where this machine does not have it in the indexed folder."""
        if self.root is None:
            return None
        path = self.root / item.file
        return path if path.resolve().is_relative_to(self.root) and path.is_file() else None
