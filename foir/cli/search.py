"""`foir search INDEX IMAGE --box x0,y0,x1,y1 --text "..."`: one result a line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.cli.prompt_options import add_prompt_options, read_prompt
from foir.errors import BadPrompt, os_errors
from foir.terminal import not_empty, path, write

if TYPE_CHECKING:
    from foir import QueryImage, Searcher, SearchResults

EXPLAINED = 5  # results beside the query in an --explain image


def add_command(commands: Any) -> None:
    """Add `search` to the subparsers of a command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "search",
        help="find the images of an index that hold what you point at",
        epilog='Example: %(prog)s indexes/mine photo.jpg --box 120,80,340,300 --text "in the snow" --text-weight 0.4',
    )
    parser.add_argument("index", metavar="INDEX", type=not_empty, help="folder of an index, or hf://datasets/USER/NAME")
    parser.add_argument("image", metavar="IMAGE", type=path, nargs="?", help="the image to point at")
    add_prompt_options(parser)
    parser.add_argument("--text", metavar="WORDS", help="what the results show, alone or beside what is pointed at")
    parser.add_argument("--negative-text", metavar="WORDS", help="what the results do not show")
    parser.add_argument("--text-weight", metavar="W", type=float, default=0.5, help="weight of words, 0 to 1 (0.5)")
    parser.add_argument("--filter", metavar="FIELD=VALUE", action="append", default=[], help="such as licence=MIT")
    parser.add_argument("--exclude", metavar="ID", type=int, nargs="+", default=[], help="ids to leave out")
    parser.add_argument(
        "--context", metavar="C", type=float, help="weight of the scene against the object, 0 to 1 (0.1)"
    )
    parser.add_argument(
        "--method", help="for the scene: attention_mask|phs (default), phs, cbir, mask, crop, foveal, ..."
    )
    parser.add_argument("--heads", metavar="N", type=int, help="number of heads that phs keeps (5); -1: all but one")
    parser.add_argument("--mode", default="query", help="query, query-db (index built with --heads)")
    parser.add_argument("--k", type=int, default=20, help="number of results (20)")
    parser.add_argument("--explain", metavar="OUT.png", type=path, help="write an image of where the search looked")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Search and print rank, score, id and file of each result, separated by tabs.

    Raises:
        FoirError: The search cannot be made; see `foir.Searcher`.
    """
    from foir import Query, Searcher

    prompt = read_prompt(args)
    if args.explain is not None and args.image is None:
        raise BadPrompt("There is nothing to explain without an image: give one, or leave out --explain.")
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
        filters=_filters(args.filter),
    )
    results = searcher.search(query)
    for note in results.notes:
        write(f"foir: {note}", error=True)
    for rank, (item, score) in enumerate(zip(results.items, results.scores, strict=True), 1):
        write(rank, f"{score:.4f}", item.id, item.file)
    if args.explain is not None and image is not None:
        _explain(searcher, image, results, args.explain)


def _filters(pairs: Sequence[str]) -> dict[str, str | int]:
    for pair in pairs:
        if "=" not in pair:
            raise BadPrompt(f"--filter takes FIELD=VALUE, not {pair}.")
    return {field: value for field, _, value in (pair.partition("=") for pair in pairs)}


def _explain(searcher: Searcher, image: QueryImage, results: SearchResults, out: Path) -> None:
    from foir.search import explain

    encoder = searcher.encoder
    if results.features is None or results.mask is None:
        return  # a search by words alone
    panels = [explain.outline(image.photo.image, results.mask.box)]
    if results.is_full_view:
        panels.append(explain.overlay(image.photo.image, explain.query_heat(encoder, results.features)))
    region = explain.region_vector(encoder, image.prefix, results.mask)
    for place, item in enumerate(results.items[:EXPLAINED]):
        result = searcher.open(searcher.index.picture(item))
        heat = explain.result_heat(encoder, region, encoder.patch_features(result.prefix)[0].cpu().numpy())
        panel = explain.overlay(result.photo.image, heat)
        for found in results.regions[place] if results.regions else ():
            scale = panel.width / item.width, panel.height / item.height
            x0, y0, x1, y1 = (edge * scale[axis % 2] for axis, edge in enumerate(found.box))
            panel = explain.outline(panel, (x0, y0, x1, y1))
        panels.append(panel)
    try:
        with os_errors(f"The image {out} cannot be written"):
            explain.side_by_side(panels).save(out)
    except ValueError as error:
        raise BadPrompt(f"The image {out} cannot be written: {error}.") from error
