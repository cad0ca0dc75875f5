"""Data sets of the Hugging Face Hub that foir has a recipe for: COCO and Flickr30K."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa

from foir import hub
from foir.errors import Unavailable
from foir.index import Object
from foir.index.remote import parse_address
from foir.masks import as_corners

from .base import Metadata
from .parquet_source import ParquetSource, RowGroup

_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How to read a data set.

    Attributes:
        files: Pattern of its tables.
        columns: The columns to read, besides `image` with its `bytes`.
        parse: Returns the name and metadata of each image, given the rows of a row group and the table's features.
    """

    files: str
    columns: tuple[str, ...]
    parse: Callable[[Sequence[_Row], Mapping[str, Any]], list[tuple[str, Metadata]]]


def _coco(rows: Sequence[_Row], features: Mapping[str, Any]) -> list[tuple[str, Metadata]]:
    categories = features["objects"]["category"].feature.names
    boxes = iter(as_corners([box for row in rows for box in row["objects"]["bbox"]]))
    images = []
    for row in rows:
        objects = tuple(
            Object(-1, next(boxes), None, categories[label], None, categories[label], "COCO 2017")
            for label in row["objects"]["category"]
        )
        licence = "CC BY 4.0 (annotations); Flickr's terms (pictures)"
        images.append((f"{row['image_id']:012}.jpg", Metadata(None, "COCO 2017", licence, objects)))
    return images


def _flickr(rows: Sequence[_Row], features: Mapping[str, Any]) -> list[tuple[str, Metadata]]:
    licence = "research and education; Flickr's terms"
    return [(row["filename"], Metadata(next(iter(row["caption"]), None), "Flickr30K", licence)) for row in rows]


RECIPES = {
    "detection-datasets/coco": Recipe("data/train-*.parquet", ("image_id", "objects"), _coco),
    "lmms-lab/flickr30k": Recipe("data/test-*.parquet", ("caption", "filename"), _flickr),
}


def open_hub_dataset(address: str, out: Path) -> HubDataset | None:
    """Open "hf://datasets/USER/NAME[@REVISION]"; see `open_source`."""
    return HubDataset(*parse_address(address)) if address.startswith("hf:") else None


class HubDataset(ParquetSource):
    """A data set with a recipe, at one commit."""

    def __init__(self, repo: str, revision: str | None = None) -> None:
        """List its tables and their row groups.

        Raises:
            Unavailable: There is no recipe for it, it cannot be fetched, or its tables do not fit the recipe.
        """
        if repo not in RECIPES:
            raise Unavailable(f"foir has no recipe for the data set {repo}; it has recipes for {', '.join(RECIPES)}.")
        self.repo, self.recipe, self.commit = repo, RECIPES[repo], hub.resolve_commit(repo, revision)
        self.columns = ("image", *self.recipe.columns)
        self.empty_message = f"The data set {repo} holds no tables that its recipe knows."
        with self.read_errors():
            files = [file for file in hub.list_files(repo, self.commit) if fnmatch(file, self.recipe.files)]
            self.row_groups = self.list_row_groups(files)

    def fingerprint(self) -> list[Any]:
        """The commit, which fixes every byte."""
        return [self.repo, self.commit]

    def open_file(self, file: str) -> AbstractContextManager[Any]:
        """One of the tables. Only the bytes that are read are fetched."""
        return hub.open_file(self.repo, self.commit, file)

    @contextmanager
    def read_errors(self) -> Iterator[None]:
        """A context that turns errors of the Hub, of the network and of the table format into `Unavailable`."""
        try:
            with hub.hub_errors(f"The data set {self.repo}"):
                yield
        except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
            raise Unavailable(f"The data set {self.repo} has another form than its recipe expects.") from error

    def parse_rows(self, table: pa.Table, schema: pa.Schema, group: RowGroup) -> Iterator[tuple[bytes, str, Metadata]]:
        """The image bytes, name and metadata of each row, by the recipe."""
        from datasets import Features

        rows = table.select(self.recipe.columns).to_pylist()
        parsed = self.recipe.parse(rows, Features.from_arrow_schema(schema))
        for image, (name, metadata) in zip(table["image"], parsed, strict=True):
            yield image.as_py()["bytes"] or b"", name, metadata
