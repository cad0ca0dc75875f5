"""Result cells: what was measured, its value and its interval. Cells are written as JSON and shown as a table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from foir.errors import os_errors

from ..metrics.retrieval import Mean


@dataclass(frozen=True)
class Cell:
    """One number of an experiment.

    Attributes:
        metric: "MP@10" and the like; a paired difference of two methods has its own name ("MP@10 minus cbir").
        value: In `unit`; None unless `status` is "ok".
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
        n: Number of queries.
        published: The paper's value, for the paper's data sets and encoders.
        status: "ok", "not_run" or "published_only".
        seconds: Wall time of its query features and search; prefixes that all rows share are not included.
        revisions: Commit or digest of encoder and data.
        oddities: What is odd about the annotations that it was measured with, and how often.
    """

    experiment: str
    dataset: str
    encoder: str
    method: str
    options: Mapping[str, Any]
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: str = "%"
    published: float | None = None
    status: str = "ok"
    seed: int = 0
    seconds: float = 0.0
    revisions: Mapping[str, str] = field(default_factory=dict)
    oddities: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CellBuilder:
    """Makes cells of one experiment on one data set with one encoder; the attributes are those of `Cell`.

    Attributes:
        scale: Factor from a `Mean` to `unit`: 100 for percent.
    """

    experiment: str
    dataset: str
    encoder: str
    revisions: Mapping[str, str]
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    n: int = 0
    seconds: float = 0.0
    unit: str = "%"
    scale: float = 100
    oddities: Mapping[str, int] = field(default_factory=dict)

    def using(self, **changes: Any) -> CellBuilder:
        """A builder with other attributes, for one row of a table."""
        return replace(self, **changes)

    def value(self, metric: str, value: Mean | float, published: float | None = None) -> Cell:
        """The cell of a measured value: a `Mean` is multiplied by `scale`, a number is already in `unit`."""
        if isinstance(value, Mean):
            numbers = (self.scale * value.value, self.scale * value.low, self.scale * value.high)
            return self._cell(metric, *numbers, published=published)
        return self._cell(metric, value, published=published)

    def missing(self, metric: str, published: float | None = None, status: str = "not_run") -> Cell:
        """The cell of a value that was not measured."""
        return self._cell(metric, None, published=published, status=status)

    def compared(
        self, metric: str, mean: Mean, baselines: Mapping[str, Mean], published: float | None = None
    ) -> list[Cell]:
        """The cell of a mean, then for each named baseline the cell of the paired difference."""
        differences = [self.value(f"{metric} minus {name}", mean.minus(base)) for name, base in baselines.items()]
        return [self.value(metric, mean, published), *differences]

    def _cell(
        self, metric: str, value: float | None, low: float | None = None, high: float | None = None, **facts: Any
    ) -> Cell:
        shared = {name: value for name, value in vars(self).items() if name != "scale"}
        return Cell(**shared, metric=metric, value=value, low=low, high=high, **facts)


ESCAPED_PIPE = r"\|"  # "foveal|phs" would end its column
COLUMNS = ("data set", "encoder", "method", "options", "metric", "value", "95 % interval", "published", "n")


def check_writable(folder: Path) -> None:
    """Create a folder for results, so that a run that could not write them fails before it measures.

    Raises:
        Unavailable: It cannot be written.
    """
    with os_errors(f"The results in {folder} cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def write(cells: Sequence[Cell], path: Path) -> None:
    """Write cells as a JSON list.

    Raises:
        Unavailable: The file cannot be written.
    """
    with os_errors(f"The results {path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")


def read(path: Path) -> list[Cell]:
    """Read cells that `write` wrote."""
    return [Cell(**facts) for facts in json.loads(path.read_text())]


def format_options(options: Mapping[str, Any]) -> str:
    """Options on one line."""
    return ", ".join(f"{key}={value}" for key, value in options.items())


def format_value(cell: Cell) -> tuple[str, str]:
    """A cell's value and its interval: one decimal place with a unit, two without, none for counts."""
    if cell.value is None:
        return "not run", ""
    places = 1 if cell.unit else 0 if float(cell.value).is_integer() and cell.low is None else 2
    interval = "" if cell.low is None or cell.high is None else f"{cell.low:.{places}f} to {cell.high:.{places}f}"
    return f"{cell.value:.{places}f}", interval


def format_published(cell: Cell) -> str:
    """The paper's value with one decimal place; empty where it has none."""
    return "" if cell.published is None else f"{cell.published:.1f}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    escaped = ([text.replace("|", ESCAPED_PIPE) for text in row] for row in rows)
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(f"| {' | '.join(row)} |" for row in escaped)]


def table(cells: Sequence[Cell]) -> str:
    """Markdown with one line for each cell."""
    rows = [
        (cell.dataset, cell.encoder, cell.method, format_options(cell.options), cell.metric, *format_value(cell),
         format_published(cell), str(cell.n))
        for cell in cells
    ]  # fmt: skip
    return "\n".join(markdown_table(COLUMNS, rows))
