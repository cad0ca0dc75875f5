"""`foir search INDEX IMAGE --box x0,y0,x1,y1 --text "..."`: one result a line."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.cli.output import add_output_options, write_images
from foir.cli.search_options import add_search_options, find
from foir.errors import BadPrompt, os_errors
from foir.terminal import path

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
    add_search_options(parser, 20)
    add_output_options(parser)
    parser.add_argument("--explain", metavar="OUT.png", type=path, help="write an image of where the search looked")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Search and print rank, score, id and file of each result, separated by tabs, or in another form.

    Raises:
        FoirError: The search cannot be made; see `foir.Searcher`.
    """
    if args.explain is not None and args.image is None:
        raise BadPrompt("There is nothing to explain without an image: give one, or leave out --explain.")
    found = find(args)
    results = found.results
    facts: list[dict[str, Any]] = [
        {"rank": rank, "score": f"{score:.4f}"} for rank, score in enumerate(results.scores, 1)
    ]
    if args.json or args.csv:
        facts = [
            {
                "rank": place + 1,
                "score": round(float(score), 6),
                "likelihood": None if results.likelihoods is None else round(float(results.likelihoods[place]), 3),
                "regions": [asdict(region) for region in (results.regions[place] if results.regions else ())],
            }
            for place, score in enumerate(results.scores)
        ]
    write_images(args, found.searcher.index, results.items, facts)
    if args.explain is not None and found.image is not None:
        _explain(found.searcher, found.image, results, args.explain)


def _explain(searcher: Searcher, image: QueryImage, results: SearchResults, out: Path) -> None:
    from foir.index.pictures import read_picture
    from foir.search import explain

    encoder = searcher.encoder
    if results.features is None or results.mask is None:
        return  # a search by words alone
    panels = [explain.outline(image.photo.image, results.mask.box)]
    if results.is_full_view:
        panels.append(explain.overlay(image.photo.image, explain.query_heat(encoder, results.features)))
    region = explain.region_vector(encoder, image.prefix, results.mask)
    for place, item in enumerate(results.items[:EXPLAINED]):
        result = searcher.open(read_picture(searcher.index, item))
        heat = explain.result_heat(encoder, region, encoder.patch_features(result.prefix)[0].cpu().numpy())
        panel = explain.overlay(result.photo.image, heat)
        boxes = [found.box for found in results.regions[place]] if results.regions else []
        panels.append(explain.outline_all(panel, boxes, (item.width, item.height)))
    try:
        with os_errors(f"The image {out} cannot be written"):
            explain.side_by_side(panels).save(out)
    except ValueError as error:
        raise BadPrompt(f"The image {out} cannot be written: {error}.") from error
