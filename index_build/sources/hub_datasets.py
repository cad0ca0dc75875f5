"""Pictures in parquet tables on the Hugging Face Hub, a few rows at a time: recipes for indexes of COCO and Flickr30K.

Nothing is stored on the way: a run reads the row groups it needs over the network, and a build that goes on does not
read again what its finished shards hold.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from foir import hub
from foir.errors import Unavailable
from foir.index import Object
from foir.masks import as_corners
from index_build.sources.folder import Note, Raw, Run

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
    boxes = iter(as_corners([box for row in rows for box in row["objects"]["bbox"]]))
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


AT_ONCE = 64  # rows read at a time: pictures can be large
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
        self.repo, self.recipe, self.sha = repo, RECIPES[repo], hub.resolve_commit(repo, revision)
        self.wanted: Sequence[str] = ("image", *self.recipe.columns)
        with _readable(repo):
            files = [file for file in hub.list_files(repo, self.sha) if fnmatch(file, self.recipe.files)]
            self.groups = grouped(files, self.opened)
        self.count = sum(group.rows for group in self.groups)

    def __getstate__(self) -> dict[str, Any]:
        """What a run takes to another machine: it has its own groups."""
        return {**self.__dict__, "groups": []}

    def told(self) -> Any:
        """The commit fixes every byte."""
        return [self.repo, self.sha]

    def opened(self, file: str) -> AbstractContextManager[Any]:
        """One of the tables."""
        return hub.open_file(self.repo, self.sha, file)

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
        return cut(self, self.groups, self.count, size)


@dataclass(frozen=True, eq=False)
class Rows:
    """A run of rows of some tables, and the row groups that hold them."""

    tables: Grouped
    groups: tuple[Group, ...]
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def facts(self) -> Any:
        """What fixes every byte of the tables, and which rows these are."""
        return [*self.tables.told(), self.start, self.end]

    def pictures(self) -> Iterator[Raw]:
        """Read the row groups one after the other, a few rows at a time."""
        with self.tables.reading():
            for group in self.groups:
                with self.tables.opened(group.file) as opened:
                    file, row = pq.ParquetFile(opened), group.start
                    for batch in file.iter_batches(AT_ONCE, [group.number], columns=list(self.tables.wanted)):
                        if row < self.end and row + len(batch) > self.start:
                            table = pa.Table.from_batches([batch])
                            some = self.tables.pictures(table, file.schema_arrow, replace(group, start=row))
                            for place, (data, name, note) in enumerate(some, row):
                                if self.start <= place < self.end:
                                    yield Raw(place, name, data, note)
                        row += len(batch)
                        if row >= self.end:
                            break


def grouped(files: Sequence[str], opened: Callable[[str], AbstractContextManager[Any]]) -> list[Group]:
    """The row groups of some tables, in order."""
    groups: list[Group] = []
    start = 0
    for name in files:
        with opened(name) as file:
            facts = pq.ParquetFile(file).metadata
        for number in range(facts.num_row_groups):
            groups.append(Group(name, number, start, facts.row_group(number).num_rows))
            start += groups[-1].rows
    return groups


def cut(tables: Grouped, groups: Sequence[Group], count: int, size: int) -> list[Run]:
    """Rows in runs, each with the groups it needs."""
    begins = [group.start for group in groups]
    runs: list[Run] = []
    for start in range(0, count, size):
        end = min(start + size, count)
        own = groups[max(0, bisect_right(begins, start) - 1) : bisect_left(begins, end)]
        runs.append(Rows(tables, tuple(own), start, end))
    return runs


@contextmanager
def _readable(repo: str) -> Iterator[None]:
    """Say in one sentence what fails between here and a row."""
    try:
        with hub.hub_errors(f"The data set {repo}"):
            yield
    except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        raise Unavailable(f"The data set {repo} has another form than its recipe expects.") from error
