"""Options of a search, shared by the commands that make one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foir.cli.prompt_options import add_prompt_options, read_prompt
from foir.errors import BadPrompt
from foir.terminal import not_empty, path, write

if TYPE_CHECKING:
    from foir import QueryImage, Searcher, SearchResults


@dataclass(frozen=True, eq=False)
class Found:
    """A search that was made: with what, of which image, and its results."""

    searcher: Searcher
    image: QueryImage | None
    results: SearchResults


def add_search_options(parser: argparse.ArgumentParser, k: int) -> None:
    """Add the options that `find` reads; `k` results by default."""
    parser.add_argument("index", metavar="INDEX", type=not_empty, help="folder of an index, or hf://datasets/USER/NAME")
    parser.add_argument("image", metavar="IMAGE", type=path, nargs="?", help="the image to point at")
    add_prompt_options(parser)
    parser.add_argument("--text", metavar="WORDS", help="what the results show, alone or beside what is pointed at")
    parser.add_argument("--negative-text", metavar="WORDS", help="what the results do not show")
    parser.add_argument("--text-weight", metavar="W", type=float, default=0.5, help="weight of words, 0 to 1 (0.5)")
    add_filter_option(parser)
    parser.add_argument(
        "--min-likelihood", metavar="P", type=float, help="leave out results that hold it less likely than this, 0 to 1"
    )
    parser.add_argument("--exclude", metavar="ID", type=int, nargs="+", default=[], help="ids to leave out")
    parser.add_argument(
        "--context", metavar="C", type=float, help="weight of the scene against the object, 0 to 1 (0.1)"
    )
    parser.add_argument(
        "--method", help="for the scene: attention_mask|phs (default), phs, cbir, mask, crop, foveal, ..."
    )
    parser.add_argument("--heads", metavar="N", type=int, help="number of heads that phs keeps (5); -1: all but one")
    parser.add_argument("--mode", default="query", help="query, query-db (index built with --heads)")
    parser.add_argument("--k", type=int, default=k, help=f"number of results ({k})")


def add_filter_option(parser: argparse.ArgumentParser) -> None:
    """Add `--filter`, which `read_filters` reads."""
    text = "such as date=2024-06..2024-08, camera=Pixel*, folder=holidays, keyword=dog, rating=4.., width=2000.."
    parser.add_argument("--filter", metavar="FIELD=VALUE", action="append", default=[], help=text)


def read_filters(pairs: Sequence[str]) -> dict[str, str | int]:
    """Filters by field.

    Raises:
        BadPrompt: One is no FIELD=VALUE, or a field is given twice.
    """
    for pair in pairs:
        if "=" not in pair:
            raise BadPrompt(f"--filter takes FIELD=VALUE, not {pair}.")
    fields = [pair.partition("=")[0] for pair in pairs]
    for field in fields:
        if fields.count(field) > 1:
            raise BadPrompt(f"--filter {field}=... is given twice: one value, or one range, may narrow a field.")
    return {field: value for field, _, value in (pair.partition("=") for pair in pairs)}


def find(args: argparse.Namespace) -> Found:
    """Make the search of a command line; what was noticed goes to stderr.

    Raises:
        FoirError: It cannot be made; see `foir.Searcher`.
    """
    from foir import Query, Searcher

    prompt = read_prompt(args)
    searcher = Searcher.load(args.index, device=args.device)
    image = None if args.image is None else searcher.open(args.image)
    query = Query(
        image,
        prompt,
        text=args.text,
        negative_text=args.negative_text,
        text_weight=args.text_weight,
        method=args.method,
        options={} if args.heads is None else {"h_on": args.heads},
        **({} if args.context is None else {"context": args.context}),
        mode=args.mode,
        k=args.k,
        exclude=args.exclude,
        min_likelihood=args.min_likelihood,
        filters=read_filters(args.filter),
    )
    results = searcher.search(query)
    for note in results.notes:
        write(f"foir: {note}", error=True)
    return Found(searcher, image, results)
