"""Images on any storage that fsspec reaches: a pattern of image files, or parquet tables that hold images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foir.errors import FoirError, Unavailable
from foir.image_formats import IMAGE_SUFFIXES
from foir.images import MAX_BYTES

from .base import Chunk, Metadata, SourceImage
from .parquet_source import ParquetSource, RowGroup

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "bytes")
NAME_COLUMNS = ("file_name", "filename", "file", "__key__")
CAPTION_COLUMNS = ("caption",)
GLOB_CHARACTERS = frozenset("*?[")
VERSION_FIELDS = ("size", "mtime", "LastModified", "ETag", "etag", "updated", "md5Hash")


def open_pattern(address: str, out: Path) -> PatternSource | TableSource | None:
    """Open a pattern of image files, or of parquet tables where it ends in .parquet; see `open_source`."""
    if address.endswith(".parquet"):
        return TableSource(address)
    return PatternSource(address) if "://" in address or GLOB_CHARACTERS & set(address) else None


class PatternSource:
    """The image files that match a pattern, such as `s3://bucket/photos/**/*.jpg`."""

    root: Path | None = None
    rejected: Sequence[dict[str, str]] = ()

    def __init__(self, pattern: str) -> None:
        """List the files.

        Raises:
            Unavailable: The storage cannot be reached.
        """
        self.pattern = pattern
        with _storage_errors(pattern):
            fs, listing = _list_files(pattern)
        base = _fixed_parent(fs._strip_protocol(pattern))
        self.files = [
            _StoredFile(fs.unstrip_protocol(path), PurePosixPath(path).relative_to(base).as_posix(), _version(facts))
            for path, facts in listing.items()
            if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES
        ]

    def chunks(self, size: int) -> Sequence[Chunk]:
        """The files in sorted order. Ids are positions in it."""
        if not self.files:
            raise Unavailable(f"{self.pattern} matches no images.")
        return [_PatternChunk(start, self.files[start : start + size]) for start in range(0, len(self.files), size)]


@dataclass(frozen=True)
class _StoredFile:
    url: str
    name: str
    version: str


@dataclass(frozen=True)
class _PatternChunk:
    """Files with consecutive ids."""

    start: int
    files: Sequence[_StoredFile]

    def __len__(self) -> int:
        return len(self.files)

    def fingerprint(self) -> Any:
        """First id, addresses, and what the storage reports about size and modification."""
        return [self.start, [[file.url, file.name, file.version] for file in self.files]]

    def images(self) -> Iterator[SourceImage]:
        """The files, read one after the other. A missing file is read as an empty one.

        Raises:
            Unavailable: The storage does not answer. No image is rejected for that.
        """
        import fsspec

        for id, file in enumerate(self.files, self.start):
            with _storage_errors(file.url):
                try:
                    with fsspec.open(file.url, "rb") as stream:
                        data = stream.read(MAX_BYTES + 1)  # larger ones are refused
                except FileNotFoundError:
                    data = b""
            yield SourceImage(id, file.name, data)


class TableSource(ParquetSource):
    """Parquet tables with an image column of bytes, or of structs as the `datasets` library writes them."""

    def __init__(self, pattern: str) -> None:
        """List the tables and their row groups, and choose the columns.

        Raises:
            Unavailable: The storage cannot be reached, or the tables have no image column.
        """
        self.pattern, self.empty_message = pattern, f"{pattern} matches no tables with rows."
        with self.read_errors():
            fs, listing = _list_files(pattern)
            self.urls = [fs.unstrip_protocol(path) for path in listing]
            self.versions = [_version(facts) for facts in listing.values()]
            self.row_groups = self.list_row_groups(self.urls)
            if self.urls:
                with self.open_file(self.urls[0]) as file:
                    self.roles = _column_roles(pq.read_schema(file), pattern)
                self.columns = [column for column in self.roles if column]

    def fingerprint(self) -> list[Any]:
        """Addresses, and what the storage reports about size and modification."""
        return [self.urls, self.versions]

    def open_file(self, file: str) -> AbstractContextManager[Any]:
        """One of the tables."""
        import fsspec

        return fsspec.open(file, "rb")

    def read_errors(self) -> AbstractContextManager[None]:
        """A context that turns errors of the storage into `Unavailable`."""
        return _storage_errors(self.pattern)

    def parse_rows(self, table: pa.Table, schema: pa.Schema, group: RowGroup) -> Iterator[tuple[bytes, str, Metadata]]:
        """The image bytes, name and caption of each row. A row without a name gets the table's name and its number."""
        image_column, name_column, caption_column = self.roles
        for number, row in enumerate(table.to_pylist(), group.start):
            value = row[image_column]
            struct = value if isinstance(value, Mapping) else {"bytes": value}
            name = row.get(name_column) if name_column else struct.get("path")
            caption = row.get(caption_column) if caption_column else None
            yield (
                struct.get("bytes") or b"",
                str(name or f"{PurePosixPath(group.file).stem}-{number}"),
                Metadata(caption),
            )


def _column_roles(schema: pa.Schema, pattern: str) -> tuple[str, str | None, str | None]:
    """The columns with the image, its name and its caption."""

    def first(names: Sequence[str], accepts: Callable[[pa.DataType], bool]) -> str | None:
        return next((name for name in names if name in schema.names and accepts(schema.field(name).type)), None)

    image = first(IMAGE_COLUMNS, _holds_bytes)
    if image is None:
        raise Unavailable(f"The tables {pattern} have no image column: name it one of {', '.join(IMAGE_COLUMNS)}.")
    return image, first(NAME_COLUMNS, _holds_text), first(CAPTION_COLUMNS, _holds_text)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _list_files(pattern: str) -> tuple[Any, dict[str, Mapping[str, Any]]]:
    """The file system of a pattern, and the matching files in sorted order with what it reports about each."""
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(pattern)
    matches = fs.glob(path, detail=True)
    return fs, {name: matches[name] for name in sorted(matches) if matches[name].get("type") == "file"}


def _fixed_parent(path: str) -> str:
    """The folder above the first part of a path that holds a wildcard."""
    parts = PurePosixPath(path).parts
    fixed = next((i for i, part in enumerate(parts) if GLOB_CHARACTERS & set(part)), len(parts) - 1)
    return str(PurePosixPath(*parts[:fixed])) if fixed else ""


def _version(facts: Mapping[str, Any]) -> str:
    """A text that changes when a file does, from what its storage reports."""
    return repr([facts.get(name) for name in VERSION_FIELDS])


@contextmanager
def _storage_errors(address: str) -> Iterator[None]:
    """Turn errors of a storage into one sentence.

    Raises:
        Unavailable: Whatever happened.
    """
    try:
        yield
    except FoirError:
        raise
    except Exception as error:  # each storage has its own errors
        lines = str(error).strip().splitlines()
        raise Unavailable(f"{address} cannot be read: {lines[0] if lines else type(error).__name__}.") from error
