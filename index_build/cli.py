"""The command line: builds an index, changes it, checks it, and shares it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foir.errors import BadIndex, FoirError
from foir.terminal import Parser, not_empty, path, run_command, write, write_lines

if TYPE_CHECKING:
    from .changes import UpdateResult

PLAYROOM = Path("foir/assets/playroom")


def main(argv: Sequence[str] | None = None, prog: str = "python -m index_build") -> int:
    """Build, update, check and publish indexes.

    Args:
        argv: The arguments; those of the process if left out.
        prog: The command that was called, for help and messages.

    Returns:
        The exit status: 0 when at least one image was indexed, or the command succeeded.
    """
    args = _parser(prog).parse_args(argv)
    try:
        return run_command("index_build", lambda: args.run(args))
    except KeyboardInterrupt:
        write(error=True)
        write("index_build: stopped; the same command resumes after the last finished shard.", error=True)
        return 130


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Build, update, check and publish indexes.")
    parser.set_defaults(prog=prog)
    commands = parser.add_subparsers(required=True)

    def add(name: str, run: Callable[[argparse.Namespace], None], text: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, epilog=f"Example: %(prog)s {example}")
        command.set_defaults(run=run)
        return command

    _add_build(add("build", _build, "Index images. Run it again to resume a killed build.", "~/Pictures --out INDEX"))
    command = add("update", _update, "Index what was added to, changed in or removed from the folder.", "INDEX")
    _add_index(command).add_argument("--root", metavar="FOLDER", type=path, help="of an index that was moved here")
    command.add_argument("--check", action="store_true", help="read every file, whatever its size and time say")
    text = "drop missing images even where they are most of the index"
    command.add_argument("--accept-missing", action="store_true", help=text)
    _add_device(command)
    command = add("add", _add, "Index some images of the folder.", "INDEX ~/Pictures/new")
    _add_index(command).add_argument("paths", metavar="FILE", type=path, nargs="+", help="images or folders of them")
    _add_device(command)
    text = "Keep an index up to date while its folder changes, until Ctrl-C."
    _add_device(_add_index(add("watch", _watch, text, "INDEX")))
    text = "Remove images from the index. The files themselves stay."
    command = add("remove", _remove, text, "INDEX holidays/IMG_1234.jpg")
    _add_index(command).add_argument("names", metavar="NAME", nargs="+", help="as in search results, or a folder")
    _add_index(add("verify", _verify, "Read every byte and report what is damaged.", "INDEX"))
    _add_index(add("gc", _gc, "Remove files that only older states of the index or killed builds used.", "INDEX"))
    text = "Publish an index on the Hugging Face Hub as a data set."
    command = _add_index(add("publish", _publish, text, "INDEX --repo USER/NAME"))
    _add_repo(command)
    command.add_argument("--keep-paths", action="store_true", help="publish the names of the image files too")
    command = add("pull", _pull, "Fetch an index from the Hub, or bring a copy up to date.", "USER/NAME --out INDEX")
    command.add_argument("repo", metavar="REPO", help="USER/NAME, or hf://datasets/USER/NAME[@COMMIT]")
    command.add_argument("--out", metavar="INDEX", type=path, required=True, help="folder for the copy")
    command.add_argument("--revision", help="commit, tag or branch; the newest commit if left out")
    command = add("deploy-space", _deploy_space, "Serve the page as a Space of the Hub.", "--repo USER/NAME")
    _add_repo(command)
    address = "hf://datasets/USER/NAME[@COMMIT]; the sample if left out"
    command.add_argument("--index", metavar="INDEX", nargs="+", type=not_empty, default=[], help=address)
    command = add("bench", _bench, "Compare a whole build with the encoder alone.", "~/Pictures --limit 500")
    command.add_argument("folder", metavar="FOLDER", type=path)
    command.add_argument("--encoder", default="mini")
    command.add_argument("--limit", type=int, help="take only so many of the images")
    _add_dtype(command)
    command = add("playroom", _playroom, "Compose the sample gallery and index it (in a checkout).", "--out INDEX")
    command.add_argument("--out", metavar="INDEX", type=path, default=PLAYROOM)
    text = "Write the sprite sheets of the playroom (in a checkout)."
    command = add("sprites", _sprites, text, "package/assets emoji-test.txt")
    command.add_argument("package", metavar="PACKAGE", type=path, help="WebP files of @lobehub/fluent-emoji-3d")
    command.add_argument("emoji_test", metavar="EMOJI_TEST", type=path, help="Unicode's emoji-test.txt")
    command.add_argument("--out", metavar="FOLDER", type=path, default=PLAYROOM / "sprites")
    return parser


def _add_build(command: argparse.ArgumentParser) -> None:
    source = (
        "a folder, hf://datasets/USER/NAME of a known data set, immich://HOST (its key in IMMICH_API_KEY), "
        "or a pattern of image files or of parquet tables, "
        "also on remote storage (s3://bucket/**/*.jpg)"
    )
    command.add_argument("source", metavar="SOURCE", type=not_empty, help=source)
    command.add_argument("--out", metavar="INDEX", type=path, required=True, help="folder to write the index to")
    command.add_argument("--encoder", default="mini", help="mini (default), dinov2-base-reg, clip-large, ...")
    command.add_argument("--text", metavar="NAME", help="model for text queries; mini has its own")
    command.add_argument("--regions", metavar="N", type=int, default=16, help="region vectors of an image; 0 for none")
    command.add_argument("--region-way", metavar="WAY", default="blended", help="blended, masked, pooled or mao")
    command.add_argument("--region-views", default="whole", help="whole; tiles or crops find small things, slowly")
    command.add_argument("--revision", help="commit, tag or branch of the encoder's weights")
    command.add_argument("--heads", action="store_true", help="write a head cache, for query-db mode")
    command.add_argument("--store", metavar="milvus:URI", help="keep the rows in Milvus instead of files")
    command.add_argument("--ray", metavar="ADDRESS", help="build on a Ray cluster; local for one on this machine")
    _add_device(command)


def _add_index(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("index", metavar="INDEX", type=path)
    return command


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    _add_dtype(command)


def _add_dtype(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dtype", default="auto", help="float32, bfloat16, float16, or auto for the fastest")


def _add_repo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--repo", metavar="USER/NAME", required=True)
    text = "make the repository private if it is created (default: yes)"
    command.add_argument("--private", action=argparse.BooleanOptionalAction, default=True, help=text)


def _build(args: argparse.Namespace) -> None:
    from foir.regions.recipe import RegionRecipe

    from .pipeline import Plan, build
    from .sources import open_source

    names = ("encoder", "heads", "text", "revision", "device", "dtype", "ray", "store")
    options = {name: getattr(args, name) for name in names}
    options["regions"] = RegionRecipe.choose(args.regions, args.region_way, args.region_views)
    result = build(Plan(open_source(args.source, args.out), args.out, **options))
    _report_rejected(result.rejected)
    write(f"{result.image_count} images indexed, {len(result.rejected)} left out, {result.resumed} shards resumed")


def _update(args: argparse.Namespace) -> None:
    from .update import update

    options = {name: getattr(args, name) for name in ("root", "check", "accept_missing", "device", "dtype")}
    _report_update(args, update(args.index, **options))


def _watch(args: argparse.Namespace) -> None:
    from .watch import watch

    def report(result: UpdateResult) -> None:
        _report_update(args, result)
        sys.stdout.flush()

    def report_error(error: FoirError) -> None:
        write(f"index_build: {error}", error=True)

    watch(args.index, device=args.device, dtype=args.dtype, report=report, report_error=report_error)


def _add(args: argparse.Namespace) -> None:
    from .update import add

    _report_update(args, add(args.index, args.paths, device=args.device, dtype=args.dtype))


def _remove(args: argparse.Namespace) -> None:
    from .update import remove

    _report_update(args, remove(args.index, args.names))


def _report_update(args: argparse.Namespace, result: UpdateResult) -> None:
    _report_rejected(result.rejected)
    added, again, removed, moved = map(len, (result.added, result.reencoded, result.removed, result.moved))
    write(f"{added} images added, {again} encoded again, {removed} removed" + (f", {moved} moved" if moved else ""))
    if result.reencoded or result.removed:
        write(f"{args.prog} gc {args.index} removes what only the old state used")


def _report_rejected(rejected: Sequence[dict[str, str]]) -> None:
    for entry in rejected:
        write(f"left out {entry['file']}: {entry['reason']}", error=True)


def _verify(args: argparse.Namespace) -> None:
    from foir.index.loader import open_index

    from .maintenance import find_damage

    damage = find_damage(args.index)
    for sentence in damage[:-1]:
        write(f"index_build: {sentence}", error=True)
    if damage:
        raise BadIndex(damage[-1])
    write(f"{len(open_index(args.index))} images, every byte as it was published")


def _gc(args: argparse.Namespace) -> None:
    from .maintenance import gc

    write(f"{gc(args.index)} files removed")


def _publish(args: argparse.Namespace) -> None:
    from .publish import publish

    write(publish(args.index, args.repo, private=args.private, keep_paths=args.keep_paths))


def _pull(args: argparse.Namespace) -> None:
    from foir.index import remote

    repo, revision = remote.parse_address(args.repo) if args.repo.startswith("hf:") else (args.repo, None)
    write(remote.pull(repo, args.out, args.revision or revision))


def _deploy_space(args: argparse.Namespace) -> None:
    from .deploy_space import deploy

    write(deploy(args.repo, indexes=args.index, private=args.private))


def _bench(args: argparse.Namespace) -> None:
    from . import benchmark

    write_lines(benchmark.run(args.folder, encoder=args.encoder, limit=args.limit, dtype=args.dtype))


def _playroom(args: argparse.Namespace) -> None:
    from foir.app.opening import write_opening

    from .playroom import build_gallery

    write(f"{build_gallery(args.out).image_count} scenes indexed")
    write_opening(args.out)


def _sprites(args: argparse.Namespace) -> None:
    from .sprites import write_sprites

    write(f"{write_sprites(args.package, args.emoji_test, args.out)} sprites")
