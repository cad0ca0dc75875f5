"""The `foir` command: its own commands, and those that other packages add as entry points of `foir.commands`.

An entry point is a function `main(argv, prog) -> exit status`; the first line of its docstring is its help.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from foir.cli import caption, duplicates, encoders, export, search
from foir.terminal import Parser, run_command

GROUP = "foir.commands"


def main(argv: Sequence[str] | None = None, prog: str = "foir") -> int:
    """Run the command line; returns the exit status.

    Args:
        argv: The arguments; those of the process if left out.
        prog: Name of the program in help and messages.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    installed = {point.name: point for point in entry_points(group=GROUP) if _exists(point)}
    if argv and argv[0] in installed:
        status: int = installed[argv[0]].load()(argv[1:], prog=f"{prog} {argv[0]}")
        return status
    is_own = bool(argv) and not argv[0].startswith("-")  # else the help lists what is installed too
    args = _parser(prog, () if is_own else installed.values()).parse_args(argv)
    return run_command("foir", lambda: args.run(args))


def _exists(point: EntryPoint) -> bool:
    """Whether the module of an entry point exists; a checkout hides those of an installation."""
    try:
        return find_spec(point.module) is not None
    except ModuleNotFoundError:
        return False


def _parser(prog: str, installed: Iterable[EntryPoint]) -> Parser:
    parser = Parser(
        prog=prog,
        description="Search that looks where you point.",
        epilog="Example: %(prog)s search INDEX photo.jpg --box 120,80,340,300",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (search, export, duplicates, caption, encoders):
        command.add_command(commands)
    for point in installed:
        summary = (point.load().__doc__ or "").strip().splitlines()
        commands.add_parser(point.name, help=summary[0] if summary else None, add_help=False)
    return parser
