"""A result is a cell: what was measured on what, its value and interval. Cells go to JSON and to a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One number of an experiment.

    Attributes:
        metric: "MP@10" and the like; a paired difference of two methods has its own name.
        value: In `unit`; None unless `status` is "ok".
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
        n: Number of prompts.
        published: The paper's value, where data set and encoder are the paper's.
        status: "ok", "not_run" or "published_only".
        seconds: Wall time of its query features and search; the prefixes that all rows share are not in it.
        revisions: Commit or digest of encoder and data.
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


SLASHED = r"\|"  # "foveal|phs" would end its column
HEAD = "| data set | encoder | method | options | metric | value | 95 % interval | n |"


def write(cells: Sequence[Cell], path: Path) -> None:
    """Write cells as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")


def read(path: Path) -> list[Cell]:
    """Read what `write` wrote."""
    return [Cell(**facts) for facts in json.loads(path.read_text())]


def options_text(options: Mapping[str, Any]) -> str:
    """Options on one line."""
    return ", ".join(f"{key}={value}" for key, value in options.items())


def table(cells: Sequence[Cell]) -> str:
    """Markdown, one line a cell."""
    lines = [HEAD, "|---" * HEAD.count(" | ") + "|---|"]
    for cell in cells:
        options = options_text(cell.options)
        value = "not run" if cell.value is None else f"{cell.value:.1f}"
        interval = "" if cell.low is None or cell.high is None else f"{cell.low:.1f} to {cell.high:.1f}"
        facts = (cell.dataset, cell.encoder, cell.method, options, cell.metric, value, interval, str(cell.n))
        lines.append(f"| {' | '.join(fact.replace('|', SLASHED) for fact in facts)} |")
    return "\n".join(lines)
