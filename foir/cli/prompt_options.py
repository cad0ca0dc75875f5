"""Options that point at something: `--box`, `--point`, `--mask`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from foir.terminal import path

if TYPE_CHECKING:
    from foir.prompts import Prompt


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `read_prompt` reads."""
    parser.add_argument("--box", metavar="X0,Y0,X1,Y1", type=_numbers(4), action="append", default=[], help="pixels")
    parser.add_argument("--point", metavar="X,Y", type=_numbers(2), action="append", default=[], help="pixels")
    parser.add_argument("--mask", metavar="FILE", type=path, help="image that is opaque or bright where the object is")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")


def read_prompt(args: argparse.Namespace) -> Prompt | None:
    """The prompt of a command line; None where nothing is pointed at.

    Raises:
        BadImage: The mask cannot be read.
    """
    from foir import images
    from foir.prompts import Prompt

    mask = None if args.mask is None else images.read_mask(args.mask)
    prompt = Prompt(points=tuple(args.point), boxes=tuple(args.box), mask=mask)
    return None if prompt.empty else prompt


def _numbers(count: int) -> Callable[[str], tuple[float, ...]]:
    def parse(text: str) -> tuple[float, ...]:
        numbers = tuple(float(part) for part in text.split(","))
        if len(numbers) != count:
            raise ValueError(text)
        return numbers

    parse.__name__ = f"list of {count} numbers"  # argparse puts it into its message
    return parse
