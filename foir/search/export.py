"""Images of an index, written elsewhere: a folder of links, a contact sheet, annotations in COCO's form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from foir import images
from foir.errors import Unavailable, os_errors
from foir.filenames import safe_name
from foir.index import Item
from foir.index.protocol import IndexLike
from foir.prompts import Box
from foir.search.explain import outline_all

COLUMNS, CELL, GAP, LINE = 5, 240, 12, 18  # of a contact sheet: images in a row, and pixels
MAX_SHEET, MAX_LABEL = 500, 100  # images on one, and characters below one
Boxes = Sequence[Sequence[Box]]  # of each image, in its pixels


def write_links(index: IndexLike, items: Sequence[Item], folder: Path) -> None:
    """Link the images' files into a new folder, in their order; copies where the system makes no links.

    Raises:
        Unavailable: The folder exists already, or cannot be written.
    """
    with os_errors(f"The folder {folder} cannot be written"):
        if folder.exists():
            raise Unavailable(f"{folder} exists already: choose a new folder.")
        folder.mkdir(parents=True)
        digits = len(str(len(items)))
        for rank, item in enumerate(items, 1):
            source = index.picture(item).resolve()
            link = folder / f"{rank:0{digits}}-{safe_name(Path(item.file).stem)}{source.suffix}"
            try:
                link.symlink_to(source)
            except OSError:  # Windows lets few users make links
                shutil.copyfile(source, link)


def write_sheet(index: IndexLike, items: Sequence[Item], boxes: Boxes, file: Path) -> None:
    """Write a contact sheet: the images with their boxes outlined, numbered and named.

    Raises:
        Unavailable: There are too many images for one, or the file cannot be written.
    """
    if len(items) > MAX_SHEET:
        raise Unavailable(f"A contact sheet takes {MAX_SHEET} images, not {len(items)}: ask for fewer.")
    rows = -(-len(items) // COLUMNS)
    size = (GAP + COLUMNS * (CELL + GAP), GAP + rows * (CELL + LINE + GAP))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for place, (item, own) in enumerate(zip(items, boxes, strict=True)):
        x, y = GAP + place % COLUMNS * (CELL + GAP), GAP + place // COLUMNS * (CELL + LINE + GAP)
        panel = images.read(index.thumb(item)).image
        panel = outline_all(panel, own, (item.width, item.height))
        panel.thumbnail((CELL, CELL))
        sheet.paste(panel, (x + (CELL - panel.width) // 2, y + (CELL - panel.height) // 2))
        label = " ".join(f"{place + 1}  {item.name}".split())[:MAX_LABEL]
        while pen.textlength(label) > CELL:
            label = f"{label.removesuffix('…')[:-1].rstrip()}…"
        pen.text((x, y + CELL + 3), label, "black")
    try:
        with os_errors(f"The image {file} cannot be written"):
            sheet.save(file)
    except ValueError as error:
        raise Unavailable(f"The image {file} cannot be written: {str(error).rstrip('.')}.") from error


def write_coco(items: Sequence[Item], boxes: Boxes, scores: Sequence[Sequence[float]], name: str, file: Path) -> None:
    """Write annotations in COCO's form: a box for each region, all of one category.

    Args:
        items: The images.
        boxes: Of each.
        scores: Of the boxes.
        name: Of the category.
        file: Where.

    Raises:
        Unavailable: The file cannot be written.
    """
    annotations = [
        {"image_id": item.id, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
         "iscrowd": 0, "score": score}
        for item, own, values in zip(items, boxes, scores, strict=True)
        for (x0, y0, x1, y1), score in zip(own, values, strict=True)
    ]  # fmt: skip
    content = {
        "info": {"description": "made by foir"},
        "images": [{"id": i.id, "file_name": i.key, "width": i.width, "height": i.height} for i in items],
        "annotations": [{"id": number, **each} for number, each in enumerate(annotations, 1)],
        "categories": [{"id": 1, "name": name}],
    }
    with os_errors(f"The file {file} cannot be written"):
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
