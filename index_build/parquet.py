"""Pictures in parquet tables on the Hugging Face Hub, a few rows at a time: recipes for indexes of COCO and Flickr30K.

Nothing is stored on the way: a run reads the row groups it needs over the network, and a build that goes on does not
read again what its finished shards hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

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
class _Group:
    """A row group: its file, its place there, and its rows, counted through all tables."""

    file: str
    number: int
    start: int
    rows: int


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
        self.groups: list[_Group] = []
        start = 0
        with _readable(repo):
            files = [file for file in hub.listed(repo, self.sha) if fnmatch(file, self.recipe.files)]
            for file in files:
                with hub.opened(repo, self.sha, file) as opened:
                    table = pq.ParquetFile(opened)
                    for number in range(table.metadata.num_row_groups):
                        rows = table.metadata.row_group(number).num_rows
                        self.groups.append(_Group(file, number, start, rows))
                        start += rows
        self.count = start

    def runs(self, size: int) -> Sequence[Run]:
        """Rows in their order; ids are their places."""
        if not self.count:
            raise Unavailable(f"The data set {self.repo} holds no tables that its recipe knows.")
        return [_Rows(self, start, min(start + size, self.count)) for start in range(0, self.count, size)]


@dataclass(frozen=True, eq=False)
class _Rows:
    """A run of rows."""

    tables: Tables
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def facts(self) -> Any:
        """The commit fixes every byte."""
        return [self.tables.repo, self.tables.sha, self.start, self.end]

    def pictures(self) -> Iterator[Raw]:
        """Read the row groups that hold the rows, one after the other."""
        from datasets import Features

        recipe, repo = self.tables.recipe, self.tables.repo
        with _readable(repo):
            for group in self.tables.groups:
                first, last = max(self.start, group.start), min(self.end, group.start + group.rows)
                if first >= last:
                    continue
                with hub.opened(repo, self.tables.sha, group.file) as opened:
                    table = pq.ParquetFile(opened)
                    rows = table.read_row_group(group.number, columns=["image", *recipe.columns])
                features = Features.from_arrow_schema(table.schema_arrow)
                named = recipe.named(rows.select(recipe.columns).to_pylist(), features)
                for row in range(first - group.start, last - group.start):
                    data = rows["image"][row].as_py()["bytes"]
                    yield Raw(group.start + row, named[row][0], data or b"", named[row][1])


@contextmanager
def _readable(repo: str) -> Iterator[None]:
    """Say in one sentence what fails between here and a row."""
    try:
        with hub.reachable(f"The data set {repo}"):
            yield
    except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        raise Unavailable(f"The data set {repo} has another form than its recipe expects.") from error
