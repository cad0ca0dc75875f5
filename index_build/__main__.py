"""`python -m index_build build FOLDER --out INDEX --encoder NAME [--heads]`, `playroom`, `sprites`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from foir.errors import FoirError

PLAYROOM = Path("foir/assets/playroom")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 when at least one picture was indexed."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except FoirError as error:
        print(f"index_build: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nindex_build: stopped; the same command goes on from the last finished shard.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m index_build", description="Builds indexes that foir searches.")
    commands = parser.add_subparsers(required=True)
    build = commands.add_parser("build", help="index a folder of pictures; run it again to finish a killed build")
    build.add_argument("folder", metavar="FOLDER", type=Path)
    build.add_argument("--out", metavar="INDEX", type=Path, required=True, help="folder to write the index to")
    build.add_argument("--encoder", default="mini", help="mini (default), dinov2-base-reg, clip-large, ...")
    build.add_argument("--text", metavar="NAME", help="model for search by words; mini brings its own")
    build.add_argument("--revision", help="commit, tag or branch of the encoder's weights")
    build.add_argument("--heads", action="store_true", help="keep a head cache, for query-db mode")
    build.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    build.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    build.set_defaults(run=_build)
    playroom = commands.add_parser("playroom", help="compose the sample gallery and index it")
    playroom.add_argument("--out", metavar="INDEX", type=Path, default=PLAYROOM)
    playroom.set_defaults(run=_playroom)
    sprites = commands.add_parser("sprites", help="make the sprite sheets of the playroom")
    sprites.add_argument("package", metavar="PACKAGE", type=Path, help="WebP files of @lobehub/fluent-emoji-3d")
    sprites.add_argument("emoji_test", metavar="EMOJI_TEST", type=Path, help="Unicode's emoji-test.txt")
    sprites.add_argument("--out", metavar="FOLDER", type=Path, default=PLAYROOM / "sprites")
    sprites.set_defaults(run=_sprites)
    return parser


def _build(args: argparse.Namespace) -> None:
    from index_build.pipeline import Plan, build

    plan = Plan(args.folder, args.out, args.encoder, args.heads, args.text, args.revision, args.device, args.dtype)
    built = build(plan)
    for entry in built.rejected:
        print(f"left out {entry['file']}: {entry['reason']}", file=sys.stderr)
    print(f"{built.pictures} pictures indexed, {len(built.rejected)} left out, {built.resumed} shards resumed")


def _playroom(args: argparse.Namespace) -> None:
    from index_build import playroom

    print(f"{playroom.make(args.out).pictures} scenes indexed")


def _sprites(args: argparse.Namespace) -> None:
    from index_build import sprites

    print(f"{sprites.make(args.package, args.emoji_test, args.out)} sprites")


if __name__ == "__main__":
    sys.exit(main())
