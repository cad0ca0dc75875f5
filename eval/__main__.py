"""`python -m eval list | run EXPERIMENT | report | bench NAME`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval import cells, datasets
from eval.datasets import Captioned, Dataset
from eval.experiments import EXPERIMENTS, Kind
from eval.store import Store
from eval.tables import Captioning, Counting, Drawing, Experiment, Retrieval
from foir.errors import FoirError, Unavailable

RESULTS = Path("results")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except FoirError as error:
        print(f"eval: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m eval", description="Measures foir.")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("list", help="name every experiment").set_defaults(run=_list)
    run = commands.add_parser("run", help="measure one experiment")
    run.add_argument("experiment", help="a name from python -m eval list")
    run.add_argument("--encoder", help="instead of the experiment's own")
    run.add_argument("--dataset", help="instead of the experiment's own")
    run.add_argument("--limit", type=int, metavar="N", help="only N query pictures, on the whole gallery")
    run.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    run.add_argument("--random", action="store_true", help="random weights of the true architecture")
    run.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    run.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="what a rerun need not redo")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the cells there")
    run.set_defaults(run=_run)
    report = commands.add_parser("report", help="all results so far beside the published ones: Markdown, JSON, PNG")
    report.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    report.set_defaults(run=_report)
    bench = commands.add_parser("bench", help="measure what things cost")
    bench.add_argument("name", choices=["reprompt", "query-db", "cost"])
    bench.set_defaults(run=_bench)
    return parser


def _list(args: argparse.Namespace) -> None:
    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name}\t{experiment.title}")


def _run(args: argparse.Namespace) -> None:
    experiment = EXPERIMENTS.get(args.experiment)
    if experiment is None:
        raise Unavailable(f"There is no experiment {args.experiment!r}; python -m eval list names them.")
    found: list[cells.Cell] = []
    print(f"{experiment.title}.")
    for name in (args.dataset,) if args.dataset else experiment.datasets:
        words = isinstance(experiment, Retrieval | Captioning)
        data = datasets.read_captioned(name) if words else datasets.read(name)
        for encoder in (args.encoder,) if args.encoder else experiment.encoders:
            made = _measured(experiment, data, encoder, args)
            part = "".join(f"-{word}" for word in (args.limit, "random" if args.random else None) if word)
            cells.write(made, args.results / "cells" / f"{_file(experiment.name, name, encoder)}{part}.json")
            found += made
    print()
    print(cells.table(found))
    if args.json is not None:
        cells.write(found, args.json)


def _measured(experiment: Kind, data: Dataset | Captioned, name: str, args: argparse.Namespace) -> list[cells.Cell]:
    """The cells of one experiment on one data set with one encoder; none of a figure, whose picture is written."""
    from eval import counting, drawings, runner, text
    from foir import crossmodal, encoders

    if isinstance(experiment, Counting) and isinstance(data, Dataset):
        return counting.count(experiment, data, limit=args.limit)
    encoder = encoders.load(name, device=args.device, dtype=args.dtype, pretrained=not args.random)
    store = Store(args.results / "kept")
    if isinstance(experiment, Drawing) and isinstance(data, Dataset):
        path = args.results / f"{_file(experiment.name, data.name, name)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawings.draw(experiment.what, data, encoder, store, limit=args.limit).save(path)
        print(f"{path} drawn")
        return []
    if isinstance(experiment, Experiment) and isinstance(data, Dataset):
        best = runner.ceiling(data, experiment.k)
        print(f"{data.name}: {len(data.gallery)} pictures, perfect ranking MP@{experiment.k} = {best:.1f} %.")
        return runner.run(experiment, data, encoder, store, limit=args.limit)
    model = crossmodal.load(encoder)
    if isinstance(experiment, Retrieval) and isinstance(data, Captioned):
        return text.retrieve(experiment, data, model, limit=args.limit)
    if isinstance(experiment, Captioning) and isinstance(data, Captioned):
        return text.caption(experiment, data, model, limit=args.limit)
    raise Unavailable(f"{experiment.name} cannot be measured on {data.name}.")


def _file(*parts: str) -> str:
    return "-".join(parts).replace("/", "_")


def _report(args: argparse.Namespace) -> None:
    from eval.report import report

    print(f"{report(args.results)} written")


def _bench(args: argparse.Namespace) -> None:
    from eval import bench_cost, bench_query_db, bench_reprompt

    benches = {"reprompt": bench_reprompt, "query-db": bench_query_db, "cost": bench_cost}
    print(benches[args.name].main())


if __name__ == "__main__":
    sys.exit(main())
