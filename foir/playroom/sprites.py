"""The committed sprites: Fluent 3D emoji by Microsoft (MIT), one WebP sheet for each Unicode subgroup."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from foir import image_formats

FOLDER = Path(__file__).parents[1] / "assets" / "playroom" / "sprites"
CELL = 224  # side of a sprite's cell in its sheet
COLUMNS = 8


@dataclass(frozen=True)
class Sprite:
    """One emoji.

    Attributes:
        code: Its Unicode code points, "1f34e"; the instance in every annotation.
        name: Its Unicode name, "red apple".
        category: Its Unicode subgroup, "food-fruit".
        size: Relative height; 1 is a cat.
        place: Index of its cell in the category's sheet, row by row.
    """

    code: str
    name: str
    category: str
    size: float
    place: int

    @property
    def held_out(self) -> bool:
        """Whether no training scene may hold the sprite, one in five, so that needles are new to trained models."""
        return hashlib.sha256(self.code.encode()).digest()[0] % 5 == 0

    @property
    def flies(self) -> bool:
        """Whether the sprite may be in the air of an outdoor scene."""
        return self.category == "transport-air" or self.name in {
            "bird", "dove", "eagle", "duck", "bat", "butterfly", "honeybee", "lady beetle", "balloon", "kite",
        }  # fmt: skip

    def image(self) -> Image.Image:
        """RGBA, cropped to its visible pixels, at most 224 x 224."""
        x, y = self.place % COLUMNS * CELL, self.place // COLUMNS * CELL
        cell = _sheet(self.category).crop((x, y, x + CELL, y + CELL))
        return cell.crop(cell.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox())


@cache
def sprites() -> tuple[Sprite, ...]:
    """All sprites, in the order of their code."""
    return tuple(Sprite(**facts) for facts in json.loads((FOLDER / "sprites.json").read_text(encoding="utf-8")))


@cache
def _sheet(category: str) -> Image.Image:
    with Image.open(FOLDER / f"{category.replace(' ', '-')}.webp", formats=image_formats.BUILT_IN) as sheet:
        return sheet.convert("RGBA")
