"""`foir export INDEX ... --out OUT`: a search, or images by their ids, as links, a contact sheet or COCO's JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.cli.search_options import add_search_options, find, read_filters
from foir.errors import BadIndex, BadPrompt
from foir.terminal import path, write

if TYPE_CHECKING:
    from foir.index import Item
    from foir.index.protocol import IndexLike
    from foir.search.results import HitRegion

SHEETS = (".png", ".jpg", ".jpeg", ".webp")
Images = tuple["IndexLike", Sequence["Item"], Sequence[Sequence["HitRegion"]]]


def add_command(commands: Any) -> None:
    """Add `export` to the subparsers of a command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write a search, or some images, as links, a contact sheet or COCO's JSON",
        description="The name of OUT says what is written: a contact sheet (.png, .jpg, .webp), annotations in COCO's "
        "form with a box for each region (.json), or else a new folder of links to the images.",
        epilog="Example: %(prog)s indexes/mine photo.jpg --box 120,80,340,300 --out found",
    )
    add_search_options(parser, 100)
    parser.add_argument("--ids", metavar="ID", type=int, nargs="+", help="these images instead of a search")
    parser.add_argument("--out", metavar="OUT", type=path, required=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write what was found. Without a query, all images that pass the filters.

    Raises:
        FoirError: The search cannot be made, or OUT cannot be written.
    """
    from foir.search import export

    index, items, regions = _images(args)
    boxes = [[region.box for region in own] for own in regions]
    out: Path = args.out
    if out.suffix.lower() == ".json":
        scores = [[region.score for region in own] for own in regions]
        export.write_coco(items, boxes, scores, args.text or "selection", out)
    elif out.suffix.lower() in SHEETS:
        export.write_sheet(index, items, boxes, out)
    else:
        export.write_links(index, items, out)
    write(f"{len(items)} images written to {out}")


def _images(args: argparse.Namespace) -> Images:
    from foir.index.loader import open_index
    from foir.index.reader import Index

    if args.ids is None and (args.image is not None or args.text is not None):
        found = find(args)
        return found.searcher.index, found.results.items, found.results.regions or ((),) * len(found.results.items)
    index = open_index(args.index)
    if args.ids is not None:
        items = [index.get(id) for id in dict.fromkeys(args.ids)]
    elif args.filter:
        if not isinstance(index, Index):
            raise BadIndex("Filters alone choose images in indexes whose rows are in files, not in a database.")
        excluded = index.excluded_mask(read_filters(args.filter))
        passing = [item for item, left_out in zip(index.items(), excluded, strict=True) if not left_out]
        items = [item for item in passing if item.id not in args.exclude]
    else:
        raise BadPrompt("Say what to export: an image to point at, --text, --filter or --ids.")
    return index, items, ((),) * len(items)
