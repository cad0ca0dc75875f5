"""The lines of `python -m eval preflight`: a table of the runs, then the data, the machine, and what to get."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from foir import hub
from foir.encoders import resolve_device

from ..report.results import markdown_table
from . import machine
from .needs import Need
from .plan import Run, stored

COLUMNS = ("table", "data set", "encoders", "state", "reading, hours of a core", "computing, hours")
UNKNOWN = "-"


def lines(runs: Sequence[Run], needs: Sequence[Need], results: Path) -> list[str]:
    """Everything, as Markdown."""
    rows = [_row(list(group)) for _, group in groupby(runs, lambda run: (run.table, run.dataset, run.state))]
    to_get = [
        f"- {need.what}: {need.source}" + (f" (for the rows of {need.rows})" if need.rows else "") for need in needs
    ]
    states = dict.fromkeys(str(run.data) for run in runs if run.data is not None)
    weights = dict.fromkeys(run.weights for run in runs if run.weights)
    return [
        *markdown_table(COLUMNS, rows),
        "",
        f"Data sets, in FOIR_DATA={hub.data_folder()}:",
        *(f"- {state}" for state in states),
        "",
        "Weights:",
        *(f"- {line}" for line in weights),
        "",
        *_machine_lines(runs, results),
        "",
        *(["To get:", *to_get] if to_get else ["Everything is here: python -m eval reproduce runs it."]),
    ]


def _row(runs: Sequence[Run]) -> tuple[str, ...]:
    """One line for the encoders of a table that share a data set and a state."""
    first, encoders = runs[0], ", ".join(run.encoder for run in runs)
    images, total = sum(run.work.images for run in runs), sum(run.work.operations for run in runs)
    counted = all(run.work.operations for run in runs)
    bound = "" if all(run.work.is_whole for run in runs) else "> "
    return (
        first.table, first.dataset, encoders, first.state,
        _hours(images * machine.reading_ms() / 3.6e6) if images else UNKNOWN,
        bound + _hours(total / machine.rate() / 3600) if counted else UNKNOWN,
    )  # fmt: skip


def _hours(hours: float) -> str:
    return "< 0.01" if hours < 0.01 else f"{hours:.2f}" if hours < 10 else f"{hours:.0f}"


def _machine_lines(runs: Sequence[Run], results: Path) -> Iterator[str]:
    free = machine.gpu_free_gb()
    yield (
        f"Reading takes {machine.reading_ms():.1f} ms an image and uses 1 of {os.cpu_count()} cores; computing is "
        f"counted for the encoding of images in float32, at {machine.rate() / 1e12:.2f} TFLOP/s: half the rate of a "
        f"matrix product measured on {resolve_device('auto')}."
    )
    yield (
        f"Disk: the features of the galleries take {stored(runs) / 1e9:.1f} GB in {results}, "
        f"{machine.disk_free(results) / 1e9:.1f} GB are free."
    )
    yield "GPU: none, everything is computed on the CPU." if free is None else f"GPU: {free:.0f} GB are free."
