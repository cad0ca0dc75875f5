"""`foir caption IMAGE --box x0,y0,x1,y1`: one sentence about an image, and one steered towards what is pointed at."""

from __future__ import annotations

import argparse
from typing import Any

from foir.cli.prompt_options import add_prompt_options, read_prompt
from foir.errors import BadPrompt
from foir.terminal import path, write


def add_command(commands: Any) -> None:
    """Add `caption` to the subparsers of a command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "caption",
        help="describe an image, or what you point at, in one sentence",
        epilog="Example: %(prog)s photo.jpg --box 120,80,340,300 --strength 4",
    )
    parser.add_argument("image", metavar="IMAGE", type=path)
    add_prompt_options(parser)
    parser.add_argument("--strength", metavar="S", type=float, help="how far the sentence is steered; 0: not at all")
    parser.add_argument("--model", default="mini", help="mini (default), blip2-captions, coca or coca-squash")
    parser.add_argument("--revision", metavar="COMMIT", help="of the model's weights")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the caption; with a prompt the steered one ("pointed") before the plain one ("whole").

    Raises:
        FoirError: The image, the prompt or the model cannot be used.
    """
    from foir import image_text, images

    prompt = read_prompt(args)
    if prompt is None and args.strength is not None:
        raise BadPrompt("--strength needs something to steer towards: point at it with --box, --point or --mask.")
    photo = images.read(args.image)
    model = image_text.load(args.model, revision=args.revision, device=args.device)
    tokens = model.encode_images([photo.image])
    if prompt is not None:
        write("pointed", model.caption_image(tokens, photo, prompt, args.strength))
    plain = model.caption_image(tokens, photo)
    write(*([plain] if prompt is None else ["whole", plain]))
