"""One report of all results beside the published values, as Markdown, JSON and charts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foir.errors import os_errors

from .. import datasets
from ..experiments import registry
from ..experiments.prompted_retrieval import PromptedRetrieval
from .results import Cell, format_options, format_published, format_value, markdown_table, read, write

COLUMNS = (
    "data set", "encoder", "method", "options", "metric", "ours", "95 % interval", "published", "difference", "n",
    "seconds",
)  # fmt: skip
DIFFERENCE = " minus "


def report(folder: Path, not_run: Sequence[tuple[str, ...]] = (), notes: Sequence[str] = ()) -> Path:
    """Write `report.md`, `report.json` and a chart for each experiment with more than one number.

    Args:
        folder: Results folder of `python -m eval run`, with its cells under `cells/`.
        not_run: What should have been measured too: table, data set, encoder, reason.
        notes: What a reader should know first.

    Returns:
        The Markdown file.
    """
    cells = _latest([cell for path in sorted((folder / "cells").glob("*.json")) for cell in read(path)])
    by_experiment: dict[str, list[Cell]] = {name: [] for name in registry()}
    for cell in cells:
        by_experiment.setdefault(cell.experiment, []).append(cell)
    lines = ["# What was measured", "", *(f"- {note}" for note in notes), *([""] if notes else [])]
    for name, measured in by_experiment.items():
        if measured:
            lines += _section(folder, name, measured)
    if not_run:
        lines += ["## Not run", "", *markdown_table(("table", "data set", "encoder", "reason"), not_run), ""]
    write(cells, folder / "report.json")
    path = folder / "report.md"
    with os_errors(f"The report {path} cannot be written"):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _latest(cells: Sequence[Cell]) -> list[Cell]:
    """The last cell of each measurement: a folder may hold the same one under an old and a new file name."""
    keys = ("experiment", "dataset", "encoder", "method", "metric", "seed", "n")
    latest: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        options = json.dumps(cell.options, sort_keys=True)
        latest[*(getattr(cell, key) for key in keys), cell.revisions.get("dtype"), options] = cell
    return list(latest.values())


def _section(folder: Path, name: str, cells: Sequence[Cell]) -> list[str]:
    experiment = registry().get(name)
    lines = [f"## {name}", "", *([f"{experiment.title}.", ""] if experiment else [])]
    revisions = sorted({f"{cell.encoder} {_revision(cell)}" for cell in cells if cell.revisions})
    lines += [f"Revisions: {'; '.join(revisions)}. Seed {cells[0].seed}.", ""]
    sets, layouts = dict.fromkeys(cell.dataset for cell in cells), datasets.layouts()
    lines += [f"{each}: {layouts[each].note}\n" for each in sets if each in layouts and layouts[each].note]
    if experiment and experiment.note:
        lines += [experiment.note, ""]
    odd = sorted({(cell.dataset, cell.encoder, text, n) for cell in cells for text, n in cell.oddities.items()})
    lines += [f"{dataset}, {encoder}: {text}: {n}.\n" for dataset, encoder, text, n in odd]
    lines += [*markdown_table(COLUMNS, [_row(cell) for cell in cells]), ""]
    if isinstance(experiment, PromptedRetrieval):
        lines += _unmeasured(experiment, cells)
    if sum(cell.value is not None for cell in cells) > 1:
        with os_errors(f"The chart {folder / name}.png cannot be written"):
            _chart(name, cells, folder / f"{name}.png")
        lines += [f"![{name}]({name}.png)", ""]
    return lines


def _revision(cell: Cell) -> str:
    return " ".join(f"{key}={value}" for key, value in cell.revisions.items())


def _row(cell: Cell) -> tuple[str, ...]:
    difference = "" if cell.published is None or cell.value is None else f"{cell.value - cell.published:+.1f}"
    return (
        cell.dataset, cell.encoder, cell.method, format_options(cell.options), cell.metric, *format_value(cell),
        format_published(cell), difference, str(cell.n), f"{cell.seconds:.1f}",
    )  # fmt: skip


def _unmeasured(experiment: PromptedRetrieval, cells: Sequence[Cell]) -> list[str]:
    """The paper's data sets and encoders that have no cells here."""
    measured = {(cell.dataset, cell.encoder) for cell in cells if cell.status == "ok"}
    pairs = [f"{e} on {d}" for d in experiment.datasets for e in experiment.encoders if (d, e) not in measured]
    return [f"Not measured here: {', '.join(pairs)}.", ""] if pairs else []


def _chart(name: str, cells: Sequence[Cell], path: Path) -> None:
    """Bars with their intervals; a diamond marks the paper's value."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    units = Counter(cell.unit for cell in cells if cell.value is not None)
    unit = max(units, key=lambda unit: units[unit])  # one axis serves one unit
    bars = [c for c in reversed(cells) if c.value is not None and c.unit == unit and DIFFERENCE not in c.metric]
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.28 * len(bars)))
    for y, cell in enumerate(bars):
        value = cell.value or 0.0
        low, high = cell.low if cell.low is not None else value, cell.high if cell.high is not None else value
        axes.barh(y, value, color="#d9a441", xerr=[[max(value - low, 0)], [max(high - value, 0)]], ecolor="#2b2620")
        if cell.published is not None:
            axes.plot(cell.published, y, "D", color="#3a5a78")
    axes.set_yticks(range(len(bars)), [_label(cell, cells) for cell in bars], fontsize=7)
    axes.set_title(name, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _label(cell: Cell, cells: Sequence[Cell]) -> str:
    """What distinguishes this cell from the others of its chart."""
    facts: Mapping[str, str] = {
        "dataset": cell.dataset, "encoder": cell.encoder, "method": cell.method, "metric": cell.metric,
    }  # fmt: skip
    varying = [value for key, value in facts.items() if len({getattr(other, key) for other in cells}) > 1]
    return " ".join([*varying, format_options(cell.options)])
