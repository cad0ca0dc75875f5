"""`python -m index_build build FOLDER --out INDEX --encoder NAME [--heads]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from foir.errors import FoirError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 when at least one picture was indexed."""
    args = _parser().parse_args(argv)
    try:
        return _build(args)
    except FoirError as error:
        print(f"index_build: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m index_build", description="Builds indexes that foir searches.")
    commands = parser.add_subparsers(required=True)
    build = commands.add_parser("build", help="index a folder of pictures; run it again to finish a killed build")
    build.add_argument("folder", metavar="FOLDER", type=Path)
    build.add_argument("--out", metavar="INDEX", type=Path, required=True, help="folder to write the index to")
    build.add_argument("--encoder", default="mini", help="mini (default), dinov2-base-reg, clip-large, ...")
    build.add_argument("--revision", help="commit, tag or branch of the encoder's weights")
    build.add_argument("--heads", action="store_true", help="keep a head cache, for query-db mode")
    build.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    build.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    return parser


def _build(args: argparse.Namespace) -> int:
    from index_build.pipeline import Plan, build

    built = build(Plan(args.folder, args.out, args.encoder, args.heads, args.revision, args.device, args.dtype))
    for entry in built.rejected:
        print(f"left out {entry['file']}: {entry['reason']}", file=sys.stderr)
    print(f"{built.pictures} pictures indexed, {len(built.rejected)} left out, {built.resumed} shards resumed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
