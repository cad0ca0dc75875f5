"""One report of everything that was measured: ours beside published, as Markdown, JSON and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.experiments.own import EXPERIMENTS
from eval.experiments.specs import PromptedRetrieval
from eval.report.results import SLASHED, Cell, options_text, read, write

COLUMNS = (
    "data set", "encoder", "method", "options", "metric", "ours", "95 % interval", "published", "difference", "n",
    "seconds",
)  # fmt: skip
DIFFERENCE = " minus "


def report(folder: Path) -> Path:
    """Write `report.md`, `report.json` and one PNG for each experiment with more than one number.

    Args:
        folder: Where `python -m eval run` kept its cells, under `cells/`.

    Returns:
        The Markdown file.
    """
    cells = [cell for path in sorted((folder / "cells").glob("*.json")) for cell in read(path)]
    by_experiment: dict[str, list[Cell]] = {name: [] for name in EXPERIMENTS}
    for cell in cells:
        by_experiment.setdefault(cell.experiment, []).append(cell)
    lines = ["# What was measured", ""]
    for name, mine in by_experiment.items():
        if mine:
            lines += _section(folder, name, mine)
    write(cells, folder / "report.json")
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _section(folder: Path, name: str, cells: Sequence[Cell]) -> list[str]:
    known = EXPERIMENTS.get(name)
    lines = [f"## {name}", "", *([f"{known.title}.", ""] if known else [])]
    revisions = sorted({f"{key} {value}" for cell in cells for key, value in {cell.encoder: _revision(cell)}.items()})
    lines += [f"Revisions: {'; '.join(revisions)}. Seed {cells[0].seed}.", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for cell in cells:
        lines.append(f"| {' | '.join(fact.replace('|', SLASHED) for fact in _line(cell))} |")
    missing = _published_alone(known, cells) if isinstance(known, PromptedRetrieval) else []
    lines += ["", *missing]
    if sum(cell.value is not None for cell in cells) > 1:
        _chart(name, cells, folder / f"{name}.png")
        lines += [f"![{name}]({name}.png)", ""]
    return lines


def _revision(cell: Cell) -> str:
    return " ".join(f"{key}={value}" for key, value in cell.revisions.items())


def _line(cell: Cell) -> tuple[str, ...]:
    ours = "not run" if cell.value is None else f"{cell.value:.1f}"
    interval = "" if cell.low is None or cell.high is None else f"{cell.low:.1f} to {cell.high:.1f}"
    theirs = "" if cell.published is None else f"{cell.published:.1f}"
    apart = "" if cell.published is None or cell.value is None else f"{cell.value - cell.published:+.1f}"
    return (
        cell.dataset, cell.encoder, cell.method, options_text(cell.options), cell.metric, ours, interval, theirs, apart,
        str(cell.n), f"{cell.seconds:.1f}",
    )  # fmt: skip


def _published_alone(experiment: PromptedRetrieval, cells: Sequence[Cell]) -> list[str]:
    """What the paper measured and this report did not."""
    there = {(cell.dataset, cell.encoder) for cell in cells}
    pairs = [f"{e} on {d}" for d in experiment.datasets for e in experiment.encoders if (d, e) not in there]
    return [f"Not measured here: {', '.join(pairs)}.", ""] if pairs else []


def _chart(name: str, cells: Sequence[Cell], path: Path) -> None:
    """Bars with their intervals; a diamond where the paper has a value."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = [cell for cell in cells if cell.value is not None and DIFFERENCE not in cell.metric]
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.28 * len(shown)))
    for place, cell in enumerate(reversed(shown)):
        value = cell.value or 0.0
        low, high = cell.low if cell.low is not None else value, cell.high if cell.high is not None else value
        axes.barh(place, value, color="#d9a441", xerr=[[max(value - low, 0)], [max(high - value, 0)]], ecolor="#2b2620")
        if cell.published is not None:
            axes.plot(cell.published, place, "D", color="#3a5a78")
    axes.set_yticks(range(len(shown)), [_label(cell, cells) for cell in reversed(shown)], fontsize=7)
    axes.set_title(name, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _label(cell: Cell, cells: Sequence[Cell]) -> str:
    """What tells this cell from the others of its chart."""
    facts: Mapping[str, str] = {
        "dataset": cell.dataset, "encoder": cell.encoder, "method": cell.method, "metric": cell.metric,
    }  # fmt: skip
    telling = [value for key, value in facts.items() if len({getattr(other, key) for other in cells}) > 1]
    return " ".join([*telling, options_text(cell.options)])
