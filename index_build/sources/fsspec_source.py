"""Pictures on shared storage, wherever fsspec reaches: a pattern of files, or parquet tables that hold pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foir.errors import FoirError, Unavailable
from index_build.sources.folder import SUFFIXES, Note, Raw, Run
from index_build.sources.hub_datasets import Group, cut, grouped

PICTURE, NAME, CAPTION = (
    ("image", "jpg", "jpeg", "png", "bytes"),
    ("file_name", "filename", "file", "__key__"),
    ("caption",),
)


def stored(pattern: str) -> Glob | Tables:
    """The pictures that a pattern names: of files, or of parquet tables where it ends in .parquet.

    Raises:
        Unavailable: It names none, the storage cannot be reached, or tables hold no column of pictures.
    """
    return Tables(pattern) if pattern.endswith(".parquet") else Glob(pattern)


class Glob:
    """Files that a pattern names, such as `s3://bucket/photos/**/*.jpg`."""

    root: Path | None = None
    rejected: Sequence[dict[str, str]] = ()

    def __init__(self, pattern: str) -> None:
        """List them."""
        self.pattern = pattern
        with _reachable(pattern):
            fs, facts = _listed(pattern)
        base = _base(fs._strip_protocol(pattern))
        self.files = [
            _File(fs.unstrip_protocol(name), PurePosixPath(name).relative_to(base).as_posix(), _stamp(facts[name]))
            for name in facts
            if PurePosixPath(name).suffix.lower() in SUFFIXES
        ]

    def runs(self, size: int) -> Sequence[Run]:
        """In sorted order; ids are places in it."""
        if not self.files:
            raise Unavailable(f"{self.pattern} names no pictures.")
        return [_Stored(start, tuple(self.files[start : start + size])) for start in range(0, len(self.files), size)]


@dataclass(frozen=True)
class _File:
    url: str
    name: str
    stamp: str


@dataclass(frozen=True)
class _Stored:
    """A run of files."""

    start: int
    files: tuple[_File, ...]

    def __len__(self) -> int:
        return len(self.files)

    def facts(self) -> Any:
        """Ids, addresses, and what the storage says of size and change."""
        return [self.start, [[file.url, file.name, file.stamp] for file in self.files]]

    def pictures(self) -> Iterator[Raw]:
        """Read one after the other; one that is gone is an empty one.

        Raises:
            Unavailable: The storage does not answer: nothing is left out for that.
        """
        import fsspec

        for id, file in enumerate(self.files, self.start):
            with _reachable(file.url):
                try:
                    with fsspec.open(file.url, "rb") as opened:
                        data = opened.read()
                except FileNotFoundError:
                    data = b""
            yield Raw(id, file.name, data)


class Tables:
    """Parquet tables with a column of pictures: bytes, or what the `datasets` library makes of an image."""

    root: Path | None = None
    rejected: Sequence[dict[str, str]] = ()

    def __init__(self, pattern: str) -> None:
        """List them and their row groups, and find the columns."""
        self.pattern = pattern
        with _reachable(pattern):
            fs, facts = _listed(pattern)
            self.urls = [fs.unstrip_protocol(name) for name in facts]
            self.stamps = [_stamp(info) for info in facts.values()]
            self.groups = grouped(self.urls, self.opened)
            self.count = sum(group.rows for group in self.groups)
            if self.urls:
                with self.opened(self.urls[0]) as file:
                    self.columns = _columns(pq.read_schema(file), pattern)
                self.wanted: Sequence[str] = [column for column in self.columns if column]

    def runs(self, size: int) -> Sequence[Run]:
        """Rows in their order; ids are their places."""
        if not self.count:
            raise Unavailable(f"{self.pattern} names no tables with rows.")
        return cut(self, self.groups, self.count, size)

    def __getstate__(self) -> dict[str, Any]:
        """What a run takes to another machine: it has its own groups."""
        return {**self.__dict__, "groups": []}

    def told(self) -> Any:
        """Addresses, and what the storage says of size and change."""
        return [self.urls, self.stamps]

    def opened(self, url: str) -> AbstractContextManager[Any]:
        """One of the tables."""
        import fsspec

        return fsspec.open(url, "rb")

    def reading(self) -> AbstractContextManager[None]:
        """Say in one sentence what fails on the way."""
        return _reachable(self.pattern)

    def pictures(self, table: pa.Table, schema: pa.Schema, group: Group) -> Iterator[tuple[bytes, str, Note]]:
        """Of each row its picture, its name, and what is known of it."""
        picture, name, caption = self.columns
        for place, row in enumerate(table.to_pylist()):
            held = row[picture]
            data = held.get("bytes") if isinstance(held, Mapping) else held
            own = row.get(name) if name else held.get("path") if isinstance(held, Mapping) else None
            plain = f"{PurePosixPath(group.file).stem}-{group.start + place}"
            yield data or b"", str(own or plain), Note(row.get(caption) if caption else None)


def _text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _columns(schema: pa.Schema, pattern: str) -> tuple[str, str | None, str | None]:
    def first(names: Sequence[str], fits: Any) -> str | None:
        return next((name for name in names if name in schema.names and fits(schema.field(name).type)), None)

    def holds(kind: pa.DataType) -> bool:
        return (
            pa.types.is_binary(kind)
            or pa.types.is_large_binary(kind)
            or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)
        )

    picture = first(PICTURE, holds)
    if picture is None:
        raise Unavailable(f"The tables {pattern} have no column of pictures: call it one of {', '.join(PICTURE)}.")
    return picture, first(NAME, _text), first(CAPTION, _text)


def _listed(pattern: str) -> tuple[Any, dict[str, Mapping[str, Any]]]:
    """The file system of a pattern, and the files it names with what it says of them, sorted."""
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(pattern)
    found = fs.glob(path, detail=True)
    return fs, {name: found[name] for name in sorted(found) if found[name].get("type") == "file"}


def _base(path: str) -> str:
    """The folder above the first part of a pattern that is one."""
    parts = PurePosixPath(path).parts
    plain = next((i for i, part in enumerate(parts) if set("*?[") & set(part)), len(parts) - 1)
    return str(PurePosixPath(*parts[:plain])) if plain else ""


def _stamp(info: Mapping[str, Any]) -> str:
    """What changes when a file does, of what its storage tells."""
    return repr([info.get(fact) for fact in ("size", "mtime", "LastModified", "ETag", "etag", "updated", "md5Hash")])


@contextmanager
def _reachable(pattern: str) -> Iterator[None]:
    try:
        yield
    except FoirError:
        raise
    except Exception as error:  # each storage has errors of its own
        said = str(error).strip().splitlines()
        raise Unavailable(f"{pattern} cannot be read: {said[0] if said else type(error).__name__}.") from error
