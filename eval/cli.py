"""`python -m eval list | run EXPERIMENT | report | bench NAME`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from eval import datasets
from eval.datasets import Captioned, Classed, Dataset, Instances
from eval.experiments.own import EXPERIMENTS, Kind
from eval.experiments.results_cache import Store
from eval.experiments.specs import (
    Captioning,
    Clustering,
    Cost,
    Counting,
    Drawing,
    Experiment,
    Feedback,
    Leaning,
    Needles,
    Perturbed,
    Proposing,
    Retrieval,
)
from eval.report import results
from foir.errors import FoirError, Unavailable

RESULTS = Path("results")
NO_DATA = "none"


BENCHES = {
    "reprompt": "reprompt",
    "query-db": "query_db",
    "cost": "cost",
    "feedback": "feedback",
    "index": "index",
    "large": "index:large",
    "cluster": "cluster",
    "milvus": "milvus",
    "scale": "scale",
    "mao": "mao",
    "page": "page",
    "load": "load",
}


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
    run.add_argument("--limit", type=_count, metavar="N", help="only N query pictures, on the whole gallery")
    run.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    run.add_argument("--adapter", type=Path, metavar="FILE", help="from foir.small_objects.finetune: the trained rows")
    run.add_argument("--random", action="store_true", help="random weights of the true architecture")
    run.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    run.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="what a rerun need not redo")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the cells there")
    run.set_defaults(run=_run)
    report = commands.add_parser("report", help="all results so far beside the published ones: Markdown, JSON, PNG")
    report.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    report.set_defaults(run=_report)
    bench = commands.add_parser("bench", help="measure what things cost")
    bench.add_argument("name", choices=BENCHES)
    bench.set_defaults(run=_bench)
    return parser


def _count(text: str) -> int:
    """A whole number of at least 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _list(args: argparse.Namespace) -> None:
    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name}\t{experiment.title}")


def _run(args: argparse.Namespace) -> None:
    experiment = EXPERIMENTS.get(args.experiment)
    if experiment is None:
        raise Unavailable(f"There is no experiment {args.experiment!r}; python -m eval list names them.")
    found: list[results.Cell] = []
    print(f"{experiment.title}.")
    for name in (args.dataset,) if args.dataset else experiment.datasets or (NO_DATA,):
        data = _data(experiment, name)
        for encoder in (args.encoder,) if args.encoder else experiment.encoders:
            made = _measured(experiment, data, encoder, args)
            part = "".join(
                f"-{word}"
                for word in (args.limit, "random" if args.random else None, "trained" if args.adapter else None)
                if word
            )
            results.write(made, args.results / "cells" / f"{_file(experiment.name, name, encoder)}{part}.json")
            found += made
    print()
    print(results.table(found))
    if args.json is not None:
        results.write(found, args.json)


def _data(experiment: Kind, name: str) -> Dataset | Captioned | Classed | Instances | None:
    if isinstance(experiment, Cost):
        return None
    if isinstance(experiment, Retrieval | Captioning | Perturbed | Proposing):
        return datasets.read_captioned(name)
    if isinstance(experiment, Needles):
        return datasets.read_instances(name)
    return datasets.read_classed(name) if isinstance(experiment, Clustering) else datasets.read(name)


def _measured(
    experiment: Kind, data: Dataset | Captioned | Classed | Instances | None, name: str, args: argparse.Namespace
) -> list[results.Cell]:
    """The cells of one experiment on one data set with one encoder; none of a figure, whose picture is written."""
    from eval.experiments import (
        caption_steering,
        dataset_stats,
        feedback,
        figures,
        itae,
        needles,
        perturbation_cost,
        proposal_recall,
        query_perturbation,
        runner,
        text_retrieval,
    )
    from foir import encoders, image_text
    from foir.small_objects import detect, finetune

    how = {"device": args.device, "dtype": args.dtype, "pretrained": not args.random}
    store = Store(args.results / "kept")
    match experiment, data:
        case Counting(), Dataset():
            return dataset_stats.count(experiment, data, limit=args.limit)
        case Drawing(), Dataset():
            path = args.results / f"{_file(experiment.name, data.name, name)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            figures.draw(experiment.what, data, encoders.load(name, **how), store, limit=args.limit).save(path)
            print(f"{path} drawn")
            return []
        case Experiment(), Dataset():
            best = runner.ceiling(data, experiment.k)
            print(f"{data.name}: {len(data.gallery)} pictures, perfect ranking MP@{experiment.k} = {best:.1f} %.")
            return runner.run(experiment, data, encoders.load(name, **how), store, limit=args.limit)
        case Retrieval(), Captioned():
            return text_retrieval.retrieve(experiment, data, image_text.load(name, **how), limit=args.limit)
        case Captioning(), Captioned():
            return text_retrieval.caption(experiment, data, image_text.load(name, **how), limit=args.limit)
        case Perturbed(), Captioned():
            return query_perturbation.run(experiment, data, image_text.load(name, **how), limit=args.limit)
        case Feedback(), Dataset():
            return feedback.run(experiment, data, image_text.load(name, **how), store, limit=args.limit)
        case Needles(), Instances():
            encoder, trained = encoders.load(name, **how), args.adapter is not None
            if trained:
                encoder = finetune.load_adapter(encoder, args.adapter)

            def detector() -> detect.Detector:  # with the encoder as it is without an adapter
                return detect.load(encoders.load(name, **how) if trained else encoder)

            return needles.run(experiment, data, encoder, detector, store, trained=trained, limit=args.limit)
        case Proposing(), Captioned():
            return proposal_recall.run(experiment, data, encoders.load(name, **how), limit=args.limit)
        case Clustering(), Classed():
            return itae.run(experiment, data, encoders.load(name, **how), limit=args.limit)
        case Leaning(), Dataset():
            return caption_steering.run(experiment, data, image_text.load(name, **how), limit=args.limit)
        case Cost(), None:
            return perturbation_cost.cost(experiment, image_text.load(name, **how), args.limit)
    raise Unavailable(f"{experiment.name} cannot be measured on this data.")


def _file(*parts: str) -> str:
    return "-".join(parts).replace("/", "_")


def _report(args: argparse.Namespace) -> None:
    from eval.report.report import report

    print(f"{report(args.results)} written")


def _bench(args: argparse.Namespace) -> None:
    module, _, name = BENCHES[args.name].partition(":")
    print(getattr(importlib.import_module(f"eval.benchmarks.{module}"), name or "main")())
