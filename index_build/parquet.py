"""Pictures in parquet tables on the Hugging Face Hub, a few rows at a time: recipes for indexes of COCO and Flickr30K.

Nothing is stored on the way: a run reads the row groups it needs over the network, and a build that goes on does not
read again what its finished shards hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from foir import hub
from foir.errors import Unavailable
from foir.index import Object
from foir.masks import corners
from index_build.sources import Note, Raw, Run

_Row = Mapping[str, Any]
_Named = tuple[str, Note]


@dataclass(frozen=True)
class Recipe:
    """How to read a data set.

    Attributes:
        files: Pattern of its tables.
        columns: What is read of them, beside `image` with its `bytes`.
        named: From the rows of a row group and the table's features, each picture's name and what is known of it.
    """

    files: str
    columns: tuple[str, ...]
    named: Callable[[Sequence[_Row], Mapping[str, Any]], list[_Named]]


def _coco(rows: Sequence[_Row], features: Mapping[str, Any]) -> list[_Named]:
    kinds = features["objects"]["category"].feature.names
    boxes = iter(corners([box for row in rows for box in row["objects"]["bbox"]]))
    named = []
    for row in rows:
        things = tuple(
            Object(-1, next(boxes), None, kinds[kind], None, kinds[kind], "COCO 2017")
            for kind in row["objects"]["category"]
        )
        note = Note(None, "COCO 2017", "CC BY 4.0 (annotations); Flickr's terms (pictures)", things)
        named.append((f"{row['image_id']:012}.jpg", note))
    return named


def _flickr(rows: Sequence[_Row], features: Mapping[str, Any]) -> list[_Named]:
    terms = "research and education; Flickr's terms"
    return [(row["filename"], Note(next(iter(row["caption"]), None), "Flickr30K", terms)) for row in rows]


RECIPES = {
    "detection-datasets/coco": Recipe("data/train-*.parquet", ("image_id", "objects"), _coco),
    "lmms-lab/flickr30k": Recipe("data/test-*.parquet", ("caption", "filename"), _flickr),
}


@dataclass(frozen=True)
class Group:
    """A row group: its file, its place there, and its rows, counted through all tables."""

    file: str
    number: int
    start: int
    rows: int


class Grouped(Protocol):
    """Tables whose row groups are read one at a time."""

    groups: list[Group]
    wanted: Sequence[str]  # the columns that are read

    def told(self) -> Any:
        """What fixes every byte of them, as JSON holds it."""

    def opened(self, file: str) -> AbstractContextManager[Any]:
        """One of the tables, to be read."""

    def reading(self) -> AbstractContextManager[None]:
        """Around reading: what fails is told in one sentence."""

    def pictures(self, table: pa.Table, schema: pa.Schema, group: Group) -> Iterator[tuple[bytes, str, Note]]:
        """Of each row of a group its picture, its name, and what is known of it."""


class Tables:
    """A data set with a recipe, at one commit."""

    root: Path | None = None
    rejected: Sequence[dict[str, str]] = ()

    def __init__(self, repo: str, revision: str | None = None) -> None:
        """List its tables and their row groups.

        Raises:
            Unavailable: There is no recipe for it, it cannot be fetched, or it has another form.
        """
        if repo not in RECIPES:
            raise Unavailable(f"foir has no recipe for the data set {repo}; it has recipes for {', '.join(RECIPES)}.")
        self.repo, self.recipe, self.sha = repo, RECIPES[repo], hub.commit(repo, revision)
        self.groups: list[Group] = []
        self.wanted: Sequence[str] = ("image", *self.recipe.columns)
        start = 0
        with _readable(repo):
            files = [file for file in hub.listed(repo, self.sha) if fnmatch(file, self.recipe.files)]
            for file in files:
                with hub.opened(repo, self.sha, file) as opened:
                    table = pq.ParquetFile(opened)
                    for number in range(table.metadata.num_row_groups):
                        rows = table.metadata.row_group(number).num_rows
                        self.groups.append(Group(file, number, start, rows))
                        start += rows
        self.count = start

    def told(self) -> Any:
        """The commit fixes every byte."""
        return [self.repo, self.sha]

    def opened(self, file: str) -> AbstractContextManager[Any]:
        """One of the tables."""
        return hub.opened(self.repo, self.sha, file)

    def reading(self) -> AbstractContextManager[None]:
        """Say in one sentence what fails on the way."""
        return _readable(self.repo)

    def pictures(self, table: pa.Table, schema: pa.Schema, group: Group) -> Iterator[tuple[bytes, str, Note]]:
        """Of each row its picture, its name, and what is known of it."""
        from datasets import Features

        rows = table.select(self.recipe.columns).to_pylist()
        named = self.recipe.named(rows, Features.from_arrow_schema(schema))
        for picture, (name, note) in zip(table["image"], named, strict=True):
            yield picture.as_py()["bytes"] or b"", name, note

    def runs(self, size: int) -> Sequence[Run]:
        """Rows in their order; ids are their places."""
        if not self.count:
            raise Unavailable(f"The data set {self.repo} holds no tables that its recipe knows.")
        return [Rows(self, start, min(start + size, self.count)) for start in range(0, self.count, size)]


@dataclass(frozen=True, eq=False)
class Rows:
    """A run of rows of some tables."""

    tables: Grouped
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def facts(self) -> Any:
        """What fixes every byte of the tables, and which rows these are."""
        return [*self.tables.told(), self.start, self.end]

    def pictures(self) -> Iterator[Raw]:
        """Read the row groups that hold the rows, one after the other."""
        with self.tables.reading():
            for group in self.tables.groups:
                first, last = max(self.start, group.start), min(self.end, group.start + group.rows)
                if first >= last:
                    continue
                with self.tables.opened(group.file) as opened:
                    file = pq.ParquetFile(opened)
                    table, schema = (
                        file.read_row_group(group.number, columns=list(self.tables.wanted)),
                        file.schema_arrow,
                    )
                rows = list(self.tables.pictures(table, schema, group))
                for row in range(first - group.start, last - group.start):
                    data, name, note = rows[row]
                    yield Raw(group.start + row, name, data, note)


@contextmanager
def _readable(repo: str) -> Iterator[None]:
    """Say in one sentence what fails between here and a row."""
    try:
        with hub.reachable(f"The data set {repo}"):
            yield
    except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        raise Unavailable(f"The data set {repo} has another form than its recipe expects.") from error
