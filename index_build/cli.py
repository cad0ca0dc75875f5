"""`python -m index_build build FOLDER --out INDEX`, and what is done to an index afterwards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foir.errors import BadIndex, FoirError

if TYPE_CHECKING:
    from index_build.sources.folder import Source
    from index_build.update import Changed

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
    build = commands.add_parser("build", help="index pictures; run it again to finish a killed build")
    build.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder, hf://datasets/USER/NAME of a known data set, a pattern of files or of "
        "parquet tables with pictures, also on shared storage (s3://bucket/**/*.jpg)",
    )
    build.add_argument("--out", metavar="INDEX", type=Path, required=True, help="folder to write the index to")
    build.add_argument("--encoder", default="mini", help="mini (default), dinov2-base-reg, clip-large, ...")
    build.add_argument("--text", metavar="NAME", help="model for search by words; mini brings its own")
    build.add_argument("--objects", metavar="mao", help="keep a vector of all objects of a picture, to find small ones")
    build.add_argument("--revision", help="commit, tag or branch of the encoder's weights")
    build.add_argument("--heads", action="store_true", help="keep a head cache, for query-db mode")
    build.add_argument("--store", metavar="milvus:URI", help="keep the rows in Milvus in the place of files")
    build.add_argument("--ray", metavar="ADDRESS", help="build on a Ray cluster; local for one on this machine")
    _computing(build)
    build.set_defaults(run=_build)
    update = commands.add_parser("update", help="take in what was added to, changed in or removed from the folder")
    _computing(_index(update))
    update.set_defaults(run=_update)
    add = commands.add_parser("add", help="add some pictures of the folder")
    _index(add).add_argument("paths", metavar="FILE", type=Path, nargs="+", help="pictures or folders of them")
    _computing(add)
    add.set_defaults(run=_add)
    remove = commands.add_parser("remove", help="remove pictures from the index; the files themselves stay")
    _index(remove).add_argument("names", metavar="NAME", nargs="+", help="as search results give it, or a folder")
    remove.set_defaults(run=_remove)
    verify = commands.add_parser("verify", help="read every byte and say what is damaged")
    _index(verify).set_defaults(run=_verify)
    gc = commands.add_parser("gc", help="remove files that only an older state of the index or a killed build used")
    _index(gc).set_defaults(run=_gc)
    publish = commands.add_parser("publish", help="put an index on the Hugging Face Hub, as a data set repository")
    _index(publish).add_argument("--repo", metavar="USER/NAME", required=True)
    publish.add_argument("--private", action="store_true", help="make the repository private, if it is made")
    publish.set_defaults(run=_publish)
    pull = commands.add_parser("pull", help="fetch an index from the Hub, or bring a copy of it up to date")
    pull.add_argument("repo", metavar="REPO", help="USER/NAME, or hf://datasets/USER/NAME[@COMMIT]")
    pull.add_argument("--out", metavar="INDEX", type=Path, required=True, help="folder for the copy")
    pull.add_argument("--revision", help="commit, tag or branch; the newest commit if left out")
    pull.set_defaults(run=_pull)
    space = commands.add_parser("deploy-space", help="serve the page as a Space on the Hugging Face Hub")
    space.add_argument("--repo", metavar="USER/NAME", required=True)
    space.add_argument(
        "--index", metavar="INDEX", nargs="+", default=[], help="hf://datasets/USER/NAME[@COMMIT]; else the sample"
    )
    space.add_argument("--private", action="store_true", help="make the Space private, if it is made")
    space.set_defaults(run=_deploy_space)
    bench = commands.add_parser("bench", help="measure a whole build beside the encoder alone")
    bench.add_argument("folder", metavar="FOLDER", type=Path)
    bench.add_argument("--encoder", default="mini")
    bench.add_argument("--limit", type=int, help="take only so many of the pictures")
    bench.set_defaults(run=_bench)
    playroom = commands.add_parser("playroom", help="compose the sample gallery and index it")
    playroom.add_argument("--out", metavar="INDEX", type=Path, default=PLAYROOM)
    playroom.set_defaults(run=_playroom)
    sprites = commands.add_parser("sprites", help="make the sprite sheets of the playroom")
    sprites.add_argument("package", metavar="PACKAGE", type=Path, help="WebP files of @lobehub/fluent-emoji-3d")
    sprites.add_argument("emoji_test", metavar="EMOJI_TEST", type=Path, help="Unicode's emoji-test.txt")
    sprites.add_argument("--out", metavar="FOLDER", type=Path, default=PLAYROOM / "sprites")
    sprites.set_defaults(run=_sprites)
    return parser


def _index(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("index", metavar="INDEX", type=Path)
    return command


def _computing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    command.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")


def _build(args: argparse.Namespace) -> None:
    from index_build.pipeline import Plan, build

    source: Path | Source = Path(args.source)
    if args.source.startswith("hf:"):
        from foir.index.remote import parse_address
        from index_build.sources.hub_datasets import Tables

        source = Tables(*parse_address(args.source))
    elif Path(args.source).is_dir():
        pass
    elif "://" in args.source or any(sign in args.source for sign in "*?[") or args.source.endswith(".parquet"):
        from index_build.sources.fsspec_source import stored

        source = stored(args.source)
    plan = Plan(
        source, args.out, args.encoder, args.heads, args.text, args.objects, args.revision, args.device, args.dtype,
        ray=args.ray, store=args.store,
    )  # fmt: skip
    built = build(plan)
    for entry in built.rejected:
        print(f"left out {entry['file']}: {entry['reason']}", file=sys.stderr)
    print(f"{built.pictures} pictures indexed, {len(built.rejected)} left out, {built.resumed} shards resumed")


def _update(args: argparse.Namespace) -> None:
    from index_build.update import update

    _tell(args.index, update(args.index, device=args.device, dtype=args.dtype))


def _add(args: argparse.Namespace) -> None:
    from index_build.update import add

    _tell(args.index, add(args.index, args.paths, device=args.device, dtype=args.dtype))


def _remove(args: argparse.Namespace) -> None:
    from index_build.update import remove

    _tell(args.index, remove(args.index, args.names))


def _tell(index: Path, done: Changed) -> None:
    for entry in done.rejected:
        print(f"left out {entry['file']}: {entry['reason']}", file=sys.stderr)
    print(f"{len(done.added)} pictures added, {len(done.renewed)} encoded again, {len(done.removed)} removed")
    if done.renewed or done.removed:
        print(f"python -m index_build gc {index} removes what only the old state used")


def _verify(args: argparse.Namespace) -> None:
    from foir.index.loader import open_index
    from index_build.maintenance import damages

    found = damages(args.index)
    if found:
        raise BadIndex("\nindex_build: ".join(found))
    print(f"{len(open_index(args.index))} pictures, every byte as it was published")


def _gc(args: argparse.Namespace) -> None:
    from index_build.maintenance import gc

    print(f"{gc(args.index)} files removed")


def _publish(args: argparse.Namespace) -> None:
    from index_build.publish import publish

    print(publish(args.index, args.repo, private=args.private))


def _pull(args: argparse.Namespace) -> None:
    from foir.index import remote

    repo, revision = remote.parse_address(args.repo) if args.repo.startswith("hf:") else (args.repo, None)
    print(remote.pull(repo, args.out, args.revision or revision))


def _deploy_space(args: argparse.Namespace) -> None:
    from index_build.deploy_space import deploy

    print(deploy(args.repo, indexes=args.index, private=args.private))


def _bench(args: argparse.Namespace) -> None:
    from index_build import benchmark

    print(benchmark.run(args.folder, encoder=args.encoder, limit=args.limit))


def _playroom(args: argparse.Namespace) -> None:
    from index_build import playroom

    print(f"{playroom.make(args.out).pictures} scenes indexed")


def _sprites(args: argparse.Namespace) -> None:
    from index_build import sprites

    print(f"{sprites.make(args.package, args.emoji_test, args.out)} sprites")
