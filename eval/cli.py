"""`python -m eval list | preflight | reproduce | run EXPERIMENT | report | bench NAME | detect`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foir.errors import Unavailable
from foir.terminal import Parser, path, run_command, write, write_lines

RESULTS = Path("results")
NO_DATA = "none"
BENCHMARKS = {  # module and function
    **{name: (name.replace("-", "_"), "main") for name in ("reprompt", "query-db", "cost", "feedback", "index")},
    "large": ("index", "large"),
    **{name: (name, "main") for name in ("cluster", "milvus", "scale", "page", "load", "regions")},
}


def main(argv: Sequence[str] | None = None, prog: str = "python -m eval") -> int:
    """Run experiments and benchmarks.

    Args:
        argv: Arguments; those of the process if left out.
        prog: The program's name in help and errors.

    Returns:
        The exit status.
    """
    args = _parser(prog).parse_args(argv)
    return run_command("eval", lambda: args.run(args))


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Run experiments and benchmarks.", epilog=f"Example: {prog} run coco-small")
    commands = parser.add_subparsers(required=True)
    example = "Example: %(prog)s"
    commands.add_parser("list", help="list every experiment", epilog=example).set_defaults(run=_list)
    run = commands.add_parser(
        "run", help="run one experiment", epilog=f"{example} phs-table1 --encoder dinov2-base-reg --dataset voc"
    )
    run.add_argument("experiment", help=f"a name from {prog} list")
    run.add_argument("--encoder", help="replaces the experiment's encoders")
    run.add_argument("--revision", metavar="COMMIT", help="of the weights of --encoder")
    run.add_argument("--dataset", help="replaces the experiment's data sets")
    run.add_argument("--limit", type=_count, metavar="N", help="only N query images, on the whole gallery")
    run.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    run.add_argument("--adapter", type=path, metavar="FILE", help="fine-tuned rows from foir.small_objects.finetune")
    run.add_argument("--random", action="store_true", help="random weights of the true architecture")
    run.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    run.add_argument("--results", type=path, default=RESULTS, metavar="FOLDER", help="cells and caches of all runs")
    run.add_argument("--json", type=path, metavar="FILE", help="write the cells to this file too")
    run.set_defaults(run=_run)
    report = commands.add_parser(
        "report", help="compare all results with the published values: Markdown, JSON, PNG",
        epilog=f"{example} --results results",
    )  # fmt: skip
    report.add_argument("--results", type=path, default=RESULTS, metavar="FOLDER", help="the folder of `run`")
    report.set_defaults(run=_report)
    _add_tables(commands.add_parser(
        "preflight", help="say what the papers' tables need and what is missing", epilog=f"{example} phs-table1"
    )).set_defaults(run=_preflight)  # fmt: skip
    reproduce = _add_tables(commands.add_parser(
        "reproduce", help="run what is ready of the papers' tables, resume, and write one report",
        epilog=f"{example} phs-table1 --device cuda",
    ))  # fmt: skip
    reproduce.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    reproduce.add_argument("--random", action="store_true", help="random weights of the true architecture")
    reproduce.set_defaults(run=_reproduce)
    bench = commands.add_parser("bench", help="run one benchmark", epilog=f"{example} reprompt")
    bench.add_argument("name", choices=BENCHMARKS)
    bench.set_defaults(run=_bench)
    _add_detect(commands)
    return parser


def _add_tables(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What `preflight` and `reproduce` share."""
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="experiments; all of the papers' if left out")
    parser.add_argument("--results", type=path, default=RESULTS, metavar="FOLDER", help="cells and caches of all runs")
    parser.add_argument("--revision", metavar="COMMIT", help="of the weights that bring code: internvl-g")
    return parser


def _add_detect(commands: Any) -> None:
    detect = commands.add_parser(
        "detect", help="write a detector's boxes for the rows of Q-Pert with detected objects",
        epilog="Example: %(prog)s --model facebook/detr-resnet-50 --dataset flickr30k",
    )  # fmt: skip
    detect.add_argument("--model", required=True, help="a transformers object detector on the Hub, owner/name")
    detect.add_argument("--dataset", required=True, help="flickr30k, flickr30k-val, coco-5k or coco-5k-val")
    detect.add_argument("--revision", help="commit, tag or branch of the detector")
    detect.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    detect.set_defaults(run=_detect)


def _count(text: str) -> int:
    """A whole number of at least 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _list(args: argparse.Namespace) -> None:
    from .experiments import registry

    for experiment in registry().values():
        write(experiment.name, experiment.title)


def _run(args: argparse.Namespace) -> None:
    from .experiments import registry
    from .experiments.specs import RunContext
    from .report import results

    experiment = registry().get(args.experiment)
    if experiment is None:
        raise Unavailable(f"There is no experiment {args.experiment!r}; python -m eval list names them.")
    if args.revision is not None and not args.encoder:
        raise Unavailable("A --revision is of one model's weights: name that model with --encoder.")
    context = RunContext(
        args.device, args.dtype, not args.random, args.limit, args.results, args.adapter, args.revision
    )
    cells: list[results.Cell] = []
    results.check_writable(args.results / "cells")
    if args.json is not None:
        results.check_writable(args.json.parent)
    write(f"{experiment.title}.")
    for dataset in (args.dataset,) if args.dataset else experiment.datasets or (NO_DATA,):
        for encoder in (args.encoder,) if args.encoder else experiment.encoders:
            measured = experiment.run(dataset, encoder, context)
            results.write(measured, context.cells_path(experiment.name, dataset, encoder))
            cells += measured
    write()
    write_lines(results.table(cells))
    if args.json is not None:
        results.write(cells, args.json)


def _report(args: argparse.Namespace) -> None:
    from .report.report import report

    write(f"{report(args.results)} written")


def _preflight(args: argparse.Namespace) -> None:
    from .preflight import plan, summary

    runs = plan.plan(args.tables, args.results, revision=args.revision)
    needs = plan.all_needs(runs, args.results)
    write_lines("\n".join(summary.lines(runs, needs, args.results)))
    if needs:
        raise Unavailable(f"{len(needs)} things are missing: the list above says what gets each.")


def _reproduce(args: argparse.Namespace) -> None:
    from .experiments.specs import RunContext
    from .reproduce import reproduce

    context = RunContext(args.device, pretrained=not args.random, results=args.results, revision=args.revision)
    reproduce(args.tables, context)


def _bench(args: argparse.Namespace) -> None:
    module, function = BENCHMARKS[args.name]
    write_lines(getattr(importlib.import_module(f".benchmarks.{module}", __package__), function)())


def _detect(args: argparse.Namespace) -> None:
    from .detect import detect

    write(f"{detect(args.model, args.dataset, args.revision, args.device)} written")
