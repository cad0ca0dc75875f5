"""`python -m eval reproduce`: run what is ready of the papers' tables, resume, and write one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foir.errors import FoirError, Unavailable
from foir.terminal import write

from .experiments.results_cache import FORMAT
from .experiments.specs import RunContext
from .preflight.plan import Run, plan
from .preflight.weights import brings_code
from .report import results
from .report.report import report

INTERRUPTED = "interrupted"


def reproduce(names: Sequence[str], context: RunContext) -> None:
    """Run every run that is ready, one after another, and write a report; finished runs are not run again.

    Args:
        names: Tables; all of the papers' where there are none.
        context: How they are run.

    Raises:
        Unavailable: A table is unknown, or something did not run; the report says what and why.
    """
    results.check_writable(context.results / "cells")
    runs = plan(names, context.results, pretrained=context.pretrained, revision=context.revision)
    reasons: list[str] = []
    try:
        for number, run in enumerate(runs, 1):
            write(f"{number} of {len(runs)}: {run.table} on {run.dataset} with {run.encoder}")
            revision = context.revision if brings_code(run.encoder) else None
            reasons.append(_measure(run, replace(context, adapter=run.adapter, revision=revision)))
            if reasons[-1]:
                write(f"Not run: {reasons[-1]}")
    except KeyboardInterrupt:
        reasons += [INTERRUPTED] * (len(runs) - len(reasons))
    left = [(run.table, run.dataset, run.encoder, reason) for run, reason in zip(runs, reasons, strict=True) if reason]
    notes = list(dict.fromkeys(str(run.data) for run in runs if run.data and run.data.is_part))
    random = [] if context.pretrained else ["All weights are random."]
    write(f"{report(context.results, left, [*random, *notes])} written")
    if left:
        raise Unavailable(
            f"{len(left)} of {len(runs)} runs are not complete, see the end of the report: what is finished is kept; "
            "run the same command to go on."
        )


def _measure(run: Run, context: RunContext) -> str:
    """Run one run unless it is finished; returns why it, or some of its rows, did not run."""
    lacks = "; ".join(need.what for need in run.missing if not need.rows or run.is_ready)
    if not run.is_ready:
        return f"{run.state} ({lacks})"
    names = (run.experiment.name, run.dataset, run.encoder)
    if not _is_finished(run, context):
        try:
            results.write(run.experiment.run(run.dataset, run.encoder, context), context.cells_path(*names))
        except Exception as error:  # whatever it is, the other tables must not wait for it
            first = next(iter(str(error).splitlines()), "")
            return first if isinstance(error, FoirError) else f"it failed, {type(error).__name__}: {first}"
    return f"{run.state} ({lacks})" if lacks else ""


def _is_finished(run: Run, context: RunContext) -> bool:
    """Whether the cells are written, are of this encoder and data, and no row of theirs has become ready since."""
    path = context.cells_path(run.experiment.name, run.dataset, run.encoder)
    try:
        cells, written = results.read(path), path.stat().st_mtime
    except (OSError, ValueError, TypeError):  # none, or of another version
        return False
    now = {
        "encoder": run.revision, "data": run.data.digest if run.data else "", "format": str(FORMAT),
        "dtype": context.dtype,
    }  # fmt: skip
    measured = [cell for cell in cells if cell.status == "ok"]
    stale = any(value not in ("", cell.revisions.get(key)) for cell in measured for key, value in now.items())
    stale = stale or (run.adapter is not None and run.adapter.stat().st_mtime > written)
    lacking = " ".join(need.rows for need in run.missing)
    arrived = context.pretrained and any(
        cell.status == "not_run"
        and cell.options.get("trained", False) == bool(run.adapter)
        and cell.options.get("boxes", lacking) not in lacking
        for cell in cells
    )
    return not stale and not arrived
