"""The command that serves the page: `foir serve`, or `python app.py`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from foir.errors import BadIndex
from foir.terminal import Parser, not_empty, run_command

if TYPE_CHECKING:
    from foir.app.collections import Collections
    from foir.app.controller import Controller, Models
    from foir.index.protocol import IndexLike
    from foir.search.searcher import Searcher


HEAD_START = 2.0  # seconds in which a browser gets the page before models load, which takes both cores


def main(argv: Sequence[str] | None = None, prog: str = "python app.py") -> int:
    """Serve the page in a browser, with an API for programs.

    Gradio reads the address from GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.

    Returns:
        The exit status.
    """
    args = _parser(prog).parse_args(argv)
    return run_command("foir", lambda: _serve(args))


def _serve(args: argparse.Namespace) -> None:
    from foir.app.server import launch

    collections = _collections(args.indexes + args.index, args.captions)
    blocks = launch(collections)
    try:
        time.sleep(HEAD_START)
        for _, key in collections.choices():  # the page is up while models load; one that cannot load ends it
            collections.controller(key).searcher  # noqa: B018
        blocks.block_thread()
    finally:
        blocks.close()
        collections.watches.stop_all()
        if collections.job is not None:
            collections.job.stop()


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Serve the page in a browser, with an API for programs.",
        epilog="Example: %(prog)s indexes/photos --captions blip2-captions",
    )
    parser.add_argument(
        "indexes",
        nargs="*",
        type=not_empty,
        default=[],
        metavar="INDEX",
        help="folder of an index, or hf://datasets/USER/NAME (default: FOIR_INDEX, else the sample)",
    )
    parser.add_argument("--index", nargs="+", type=not_empty, default=[], metavar="INDEX", help="the same as INDEX")
    parser.add_argument("--captions", metavar="MODEL", help="captioning model: blip2-captions, coca or coca-squash")
    return parser


def _collections(addresses: Sequence[str], captions: str | None) -> Collections:
    """The collections to serve, none of them opened yet; on ZeroGPU with all models loaded.

    Args:
        addresses: Indexes to serve; by default those of FOIR_INDEX, else the sample.
        captions: Name of a captioning model.
    """
    from foir import encoders
    from foir.app.collections import SAMPLE, Collections
    from foir.app.controller import Controller
    from foir.app.server import is_localhost, is_loopback
    from foir.index.loader import open_index

    def open_collection(address: str | Path, key: str, models: Models = None) -> Controller:
        index = open_index(address)
        load = partial(_load_searcher, index, captions, models)
        if encoders.has_zerogpu():  # such a GPU takes only models that are loaded before the page is up
            searcher = load()
            return Controller(index, lambda: searcher, key)
        return Controller(index, load, key, models=models, serves_files=is_loopback())

    default = [address.strip() for address in os.environ.get("FOIR_INDEX", "").split(",") if address.strip()]
    collections = Collections(addresses or default or [SAMPLE], open_collection, can_add=is_localhost())
    for _, key in collections.choices() if encoders.has_zerogpu() else ():
        collections.controller(key)
    return collections


def _load_searcher(index: IndexLike, captions: str | None, models: Models) -> Searcher:
    """The Searcher of an index, with the models of its earlier state where there is one."""
    from foir.search.searcher import Searcher  # imports torch, for which the page does not wait

    if models is not None:
        with suppress(BadIndex):  # it was built again, with others
            return Searcher(index, *models)
    return Searcher.load(index, captions=captions)
