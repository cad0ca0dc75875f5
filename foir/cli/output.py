"""Images on standard output: as lines, as paths, as JSON, as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.terminal import write, write_exactly, write_lines

if TYPE_CHECKING:
    from foir.index import Item
    from foir.index.protocol import IndexLike

FACTS = ("file", "time", "width", "height", "caption", "source", "licence", "camera", "lens", "rating")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, `--paths` and `--csv`, of which one may be given."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="all that is known, as a JSON list")
    forms.add_argument("--paths", action="store_true", help="paths of the images alone")
    forms.add_argument("--csv", action="store_true", help="a table with a line of names")


def write_images(args: argparse.Namespace, index: IndexLike, items: Sequence[Item], facts: Sequence[dict]) -> None:
    """Write images in the form that the options ask for.

    Args:
        args: See `add_output_options`.
        index: Of the images.
        items: The images.
        facts: What else is to be said of each: values by name; lines show them in front of the file's name.
    """
    if args.paths:
        for item in items:
            write_exactly(str(path_of(index, item)))
        return
    if not (args.json or args.csv):
        for item, own in zip(items, facts, strict=True):
            write(*(value for name, value in own.items() if name != "regions"), item.id, item.key)
        return
    rows = [{**own, **describe(item)} for item, own in zip(items, facts, strict=True)]
    if args.json:
        write_lines(json.dumps(rows, indent=1))
        return
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]) if rows else ["id", *FACTS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    write_exactly(table.getvalue().rstrip("\n"))


def path_of(index: IndexLike, item: Item) -> Path:
    """The file of an image, as it is called in the indexed folder; its thumbnail where the file is not at hand."""
    from foir.index import Index

    own = index.original(item) if isinstance(index, Index) else None
    return own or index.picture(item)


def describe(item: Item) -> dict[str, Any]:
    """What an index knows about an image."""
    facts = {name: getattr(item, name) for name in FACTS}
    keywords = item.keywords.split("\n") if item.keywords else []
    return {
        "id": item.id,
        **facts,
        "keywords": keywords,
        "taken": taken(item),
        "taken_from": item.taken_from,
        "link": item.link,
    }


def taken(item: Item) -> str | None:
    """When an image was taken, by its own clock, as ISO 8601; with the clock's offset where it is known."""
    time = item.taken_at
    if time is None:
        return None
    if item.taken_offset is None:
        return time.isoformat()
    sign, minutes = "-" if item.taken_offset < 0 else "+", abs(item.taken_offset)
    return f"{time.isoformat()}{sign}{minutes // 60:02}:{minutes % 60:02}"


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
