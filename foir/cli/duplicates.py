"""`foir duplicates INDEX`: images that are the same, nearly the same, or of one burst."""

from __future__ import annotations

import argparse
from typing import Any

from foir.cli.output import add_output_options, write_images
from foir.errors import BadIndex
from foir.terminal import path


def add_command(commands: Any) -> None:
    """Add `duplicates` to the subparsers of a command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "duplicates",
        help="list images that are the same, nearly the same, or of one burst",
        description="Each line says the group, its kind, whether to keep the image or not, its id and its file. "
        "Nothing is deleted. With --paths, only the paths of those not to keep.",
        epilog="Example: %(prog)s indexes/mine --kind exact --paths",
    )
    parser.add_argument("index", metavar="INDEX", type=path, help="folder of an index")
    parser.add_argument("--kind", choices=("exact", "near", "burst"), action="append", help="only this kind (all)")
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the groups.

    Raises:
        FoirError: The index cannot be opened.
    """
    from foir.duplicates import KINDS, find_duplicates
    from foir.index.loader import open_index
    from foir.index.reader import Index

    index = open_index(args.index)
    if not isinstance(index, Index):
        raise BadIndex("Duplicates are looked for in indexes whose rows are in files, not in a database.")
    members = [
        (item, {"group": number, "kind": group.kind, "choice": "spare" if place else "keep"})
        for number, group in enumerate(find_duplicates(index, args.kind or KINDS), 1)
        for place, item in enumerate(group.items)
        if place or not args.paths
    ]
    write_images(args, index, [item for item, _ in members], [facts for _, facts in members])
