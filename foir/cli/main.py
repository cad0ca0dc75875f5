"""`python -m foir search INDEX IMAGE --box x0,y0,x1,y1 --text "..."`, one result a line; `caption IMAGE --box ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.errors import BadPrompt, FoirError

if TYPE_CHECKING:
    from foir import Prompt, QueryImage, Searcher, SearchResults

_ESCAPES = {ord("\t"): r"\t", ord("\n"): r"\n", ord("\r"): r"\r"}
EXPLAINED = 5  # hits shown beside the query in an --explain picture


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except FoirError as error:
        print(f"foir: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m foir", description="Search that looks where you point.")
    commands = parser.add_subparsers(required=True)
    search = commands.add_parser("search", help="find the pictures of an index that hold what you point at")
    search.add_argument("index", metavar="INDEX", help="folder made by index_build, or hf://datasets/USER/NAME")
    search.add_argument("image", metavar="IMAGE", type=Path, nargs="?", help="the picture to point at")
    search.add_argument("--text", metavar="WORDS", help="what to look for, alone or beside what is pointed at")
    search.add_argument("--only", metavar="FIELD=VALUE", action="append", default=[], help="such as licence=MIT")
    search.add_argument("--minus", metavar="WORDS", help="what the results should not show")
    search.add_argument("--mix", metavar="W", type=float, default=0.5, help="weight of words, 0 to 1 (0.5)")
    _add_pointing(search)
    search.add_argument("--method", help="phs (default with a prompt), cbir, mask, crop, foveal, ...; chain with |")
    search.add_argument("--heads", metavar="N", type=int, help="how many heads phs keeps (5); -1: all but one")
    search.add_argument("--mode", default="query", help="query, query-db (index built with --heads), small (--objects)")
    search.add_argument("--k", type=int, default=20, help="how many results (20)")
    search.add_argument("--explain", metavar="OUT.png", type=Path, help="write a picture of where the search looked")
    search.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    search.set_defaults(run=_search)
    caption = commands.add_parser("caption", help="say in one sentence what a picture shows, or what you point at")
    caption.add_argument("image", metavar="IMAGE", type=Path)
    _add_pointing(caption)
    caption.add_argument("--strength", metavar="W", type=float, help="how far the sentence leans; 0: not at all")
    caption.add_argument("--model", default="mini", help="mini (default), blip2-captions or coca")
    caption.add_argument("--revision", metavar="COMMIT", help="of the model's weights")
    caption.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    caption.set_defaults(run=_caption)
    return parser


def _add_pointing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--box", metavar="X0,Y0,X1,Y1", type=_numbers(4), action="append", default=[], help="pixels")
    parser.add_argument("--point", metavar="X,Y", type=_numbers(2), action="append", default=[], help="pixels")
    parser.add_argument("--mask", metavar="FILE", type=Path, help="picture that is opaque or bright where the thing is")


def _numbers(count: int) -> Any:
    def parse(text: str) -> tuple[float, ...]:
        parts = tuple(float(part) for part in text.split(","))
        if len(parts) != count:
            raise ValueError(text)
        return parts

    parse.__name__ = f"list of {count} numbers"  # argparse puts it into its message
    return parse


def _prompt(args: argparse.Namespace) -> Prompt | None:
    from foir import Prompt, images

    mask = None if args.mask is None else images.read_mask(args.mask)
    prompt = Prompt(points=tuple(args.point), boxes=tuple(args.box), mask=mask)
    return None if prompt.empty else prompt


def _search(args: argparse.Namespace) -> None:
    from foir import Searcher

    prompt = _prompt(args)
    if args.explain is not None and args.image is None:
        raise BadPrompt("There is nothing to explain without a picture: give one, or leave out --explain.")
    searcher = Searcher.load(args.index, device=args.device)
    picture = None if args.image is None else searcher.open(args.image)
    hits = searcher.search(
        picture,
        prompt,
        text=args.text,
        minus=args.minus,
        mix=args.mix,
        method=args.method,
        options={} if args.heads is None else {"h_on": args.heads},
        mode=args.mode,
        k=args.k,
        only=_pairs(args.only),
    )
    for note in hits.notes:
        print(f"foir: {note}", file=sys.stderr)
    for rank, (item, score) in enumerate(zip(hits.items, hits.scores, strict=True), 1):
        print(f"{rank}\t{score:.4f}\t{item.id}\t{item.file.translate(_ESCAPES)}")
    if args.explain is not None and picture is not None:
        _explain(searcher, picture, hits, args.explain)


def _caption(args: argparse.Namespace) -> None:
    from foir import image_text, images

    prompt = _prompt(args)
    if prompt is None and args.strength is not None:
        raise BadPrompt("--strength needs something to lean towards: point at it with --box, --point or --mask.")
    photo = images.read(args.image)
    model = image_text.load(args.model, revision=args.revision, device=args.device)
    tokens = model.encode_images([photo.image])
    if prompt is not None:
        print(f"pointed\t{model.caption_image(tokens, photo, prompt, args.strength)}")
    print(("" if prompt is None else "whole\t") + model.caption_image(tokens, photo))


def _pairs(said: Sequence[str]) -> dict[str, str | int]:
    """FIELD=VALUE, each.

    Raises:
        BadPrompt: One is not that.
    """
    for pair in said:
        if "=" not in pair:
            raise BadPrompt(f"--only takes FIELD=VALUE, not {pair}.")
    return {pair.split("=", 1)[0]: pair.split("=", 1)[1] for pair in said}


def _explain(searcher: Searcher, picture: QueryImage, hits: SearchResults, out: Path) -> None:
    from foir.search import explain

    encoder = searcher.encoder
    if hits.features is None or hits.mask is None:
        return  # words alone were searched for
    shown = [explain.outline(picture.photo.image, hits.mask)]
    if hits.is_full_view:
        shown.append(explain.overlay(picture.photo.image, explain.query_heat(encoder, hits.features)))
    wanted = explain.region_vector(encoder, picture.prefix, hits.mask)
    for item in hits.items[:EXPLAINED]:
        hit = searcher.open(searcher.index.picture(item))
        heat = explain.result_heat(encoder, wanted, encoder.patch_features(hit.prefix)[0].cpu().numpy())
        shown.append(explain.overlay(hit.photo.image, heat))
    try:
        explain.side_by_side(shown).save(out)
    except (OSError, ValueError) as error:
        raise BadPrompt(f"The picture {out} cannot be written: {error}.") from error
