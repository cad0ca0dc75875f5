"""`foir encoders`: every encoder that an index can be built with."""

from __future__ import annotations

import argparse
from typing import Any

from foir.terminal import write

COLUMNS = ("name", "dim", "heads", "blocks", "licence", "weights")


def add_command(commands: Any) -> None:
    """Add `encoders` to the subparsers of a command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "encoders", help="list the encoders that an index can be built with", epilog="Example: %(prog)s"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print one encoder a line, columns separated by tabs; 0 stands for what only the checkpoint knows."""
    from foir.encoders import encoder_specs

    write(*COLUMNS)
    for spec in encoder_specs().values():
        write(*(getattr(spec, column) for column in COLUMNS))
