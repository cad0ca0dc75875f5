"""`python -m eval list | run EXPERIMENT | bench NAME`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval import cells
from eval.tables import EXPERIMENTS
from foir.errors import FoirError, Unavailable


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
    run.add_argument("--json", type=Path, metavar="FILE", help="write the cells there")
    run.set_defaults(run=_run)
    bench = commands.add_parser("bench", help="measure a speed ratio")
    bench.add_argument("name", choices=["reprompt"])
    bench.set_defaults(run=_bench)
    return parser


def _list(args: argparse.Namespace) -> None:
    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name}\t{experiment.title}")


def _run(args: argparse.Namespace) -> None:
    experiment = EXPERIMENTS.get(args.experiment)
    if experiment is None:
        raise Unavailable(f"There is no experiment {args.experiment!r}; python -m eval list names them.")
    from eval import runner
    from eval.datasets import datasets
    from foir import encoders

    found: list[cells.Cell] = []
    print(f"{experiment.title}.")
    for dataset_name in (args.dataset,) if args.dataset else experiment.datasets:
        if dataset_name not in datasets():
            raise Unavailable(f"There is no data set {dataset_name!r}; eval knows {', '.join(datasets())}.")
        dataset = datasets()[dataset_name]()
        best = runner.ceiling(dataset, experiment.k)
        print(f"{dataset.name}: {len(dataset.gallery)} pictures, perfect ranking MP@{experiment.k} = {best:.1f} %.")
        for encoder_name in (args.encoder,) if args.encoder else experiment.encoders:
            encoder = encoders.load(encoder_name, device=args.device, pretrained=not args.random)
            found += runner.run(experiment, dataset, encoder, limit=args.limit)
    print()
    print(cells.table(found))
    if args.json is not None:
        cells.write(found, args.json)


def _bench(args: argparse.Namespace) -> None:
    from eval import bench_reprompt

    print(bench_reprompt.main())


if __name__ == "__main__":
    sys.exit(main())
