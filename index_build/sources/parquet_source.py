"""Images in parquet tables, read a few rows at a time.

Nothing is stored on the way. A chunk reads only the row groups that hold its rows, so a resumed build does not read
the rows of finished shards again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foir.errors import Unavailable

from .base import Chunk, Metadata, SourceImage

READ_ROWS = 64  # rows read at a time: images can be large


@dataclass(frozen=True)
class RowGroup:
    """A row group: its file, its number in the file, its first row counted through all tables, and its length."""

    file: str
    number: int
    start: int
    rows: int


class ParquetSource(ABC):
    """One image in each row of some tables. Ids are row numbers, counted through all tables.

    Attributes:
        columns: The columns to read.
        row_groups: The row groups of all tables in order.
        empty_message: The error message for tables without rows.
    """

    root: Path | None = None
    rejected: Sequence[dict[str, str]] = ()
    columns: Sequence[str]
    row_groups: Sequence[RowGroup]
    empty_message: str

    @abstractmethod
    def fingerprint(self) -> list[Any]:
        """A JSON value that changes whenever a byte of the tables changes."""

    @abstractmethod
    def open_file(self, file: str) -> AbstractContextManager[Any]:
        """One of the tables, open for reading."""

    @abstractmethod
    def read_errors(self) -> AbstractContextManager[None]:
        """A context that turns errors of reading into `Unavailable`."""

    @abstractmethod
    def parse_rows(self, table: pa.Table, schema: pa.Schema, group: RowGroup) -> Iterator[tuple[bytes, str, Metadata]]:
        """The image bytes, name and metadata of each row of a table.

        Args:
            table: Rows with the columns `columns`.
            schema: The schema of their file.
            group: Where they are from; its `start` is the first of these rows.
        """

    def list_row_groups(self, files: Sequence[str]) -> list[RowGroup]:
        """The row groups of some tables in order."""
        groups: list[RowGroup] = []
        start = 0
        for name in files:
            with self.open_file(name) as file:
                facts = pq.ParquetFile(file).metadata
            for number in range(facts.num_row_groups):
                groups.append(RowGroup(name, number, start, facts.row_group(number).num_rows))
                start += groups[-1].rows
        return groups

    def chunks(self, size: int) -> Sequence[Chunk]:
        """The rows in order, each chunk with the row groups that it needs."""
        starts = [group.start for group in self.row_groups]
        count = sum(group.rows for group in self.row_groups)
        if not count:
            raise Unavailable(self.empty_message)
        chunks = []
        for start in range(0, count, size):
            end = min(start + size, count)
            groups = self.row_groups[max(0, bisect_right(starts, start) - 1) : bisect_left(starts, end)]
            chunks.append(ParquetChunk(self, tuple(groups), start, end))
        return chunks

    def __getstate__(self) -> dict[str, Any]:
        """What a chunk takes along to another machine: it has its own row groups."""
        return {**self.__dict__, "row_groups": []}


@dataclass(frozen=True, eq=False)
class ParquetChunk:
    """The rows from `start` to `end` of some tables, and the row groups that hold them."""

    source: ParquetSource
    groups: tuple[RowGroup, ...]
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def fingerprint(self) -> Any:
        """The fingerprint of the tables, and the range of rows."""
        return [*self.source.fingerprint(), self.start, self.end]

    def images(self) -> Iterator[SourceImage]:
        """The images, read from one row group after the other."""
        with self.source.read_errors():
            for group in self.groups:
                with self.source.open_file(group.file) as file:
                    yield from self._group_images(pq.ParquetFile(file), group)

    def _group_images(self, file: pq.ParquetFile, group: RowGroup) -> Iterator[SourceImage]:
        first = group.start
        for batch in file.iter_batches(READ_ROWS, [group.number], columns=list(self.source.columns)):
            if first + len(batch) > self.start:
                table = pa.Table.from_batches([batch])
                rows = self.source.parse_rows(table, file.schema_arrow, replace(group, start=first))
                for id, (data, name, metadata) in enumerate(rows, first):
                    if self.start <= id < self.end:
                        yield SourceImage(id, name, data, metadata)
            first += len(batch)
            if first >= self.end:
                break
