"""Writes the committed sprite sheets from the npm package @lobehub/fluent-emoji-3d and Unicode's emoji-test.txt.

npm pack @lobehub/fluent-emoji-3d@1.1.0 && tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz
python -m index_build sprites package/assets emoji-test.txt --out foir/assets/playroom/sprites
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path

from PIL import Image

from foir.errors import Unavailable
from foir.playroom.sprites import CELL, COLUMNS, Sprite

QUALITY = 80
# Height by category relative to a cat. All sprites are toys in a room: an elephant is large, but no house.
SIZES = {
    "animal-mammal": 1.05, "animal-bird": 0.8, "animal-amphibian": 0.6, "animal-reptile": 0.95, "animal-marine": 0.9,
    "animal-bug": 0.42, "plant-flower": 0.62, "plant-other": 1.0, "food-fruit": 0.58, "food-vegetable": 0.62,
    "food-prepared": 0.68, "food-asian": 0.66, "food-marine": 0.66, "food-sweet": 0.62, "drink": 0.7, "dishware": 0.7,
    "transport-ground": 1.3, "transport-water": 1.15, "transport-air": 1.15, "time": 0.62, "event": 0.75,
    "award-medal": 0.6, "sport": 0.62, "game": 0.66, "clothing": 0.72, "musical-instrument": 0.9, "phone": 0.6,
    "computer": 0.8, "light & video": 0.7, "book-paper": 0.66, "writing": 0.55, "office": 0.58, "tool": 0.72,
    "science": 0.72, "household": 0.8,
}  # fmt: skip
SIZES_BY_NAME = {
    "elephant": 1.5, "mammoth": 1.5, "giraffe": 1.6, "rhinoceros": 1.3, "hippopotamus": 1.25, "bison": 1.25,
    "mouse": 0.5, "rat": 0.55, "hamster": 0.5, "chipmunk": 0.5, "hedgehog": 0.5, "rabbit": 0.7, "bat": 0.6,
    "cat": 1.0, "black cat": 1.0, "skunk": 0.7, "beaver": 0.7, "sloth": 0.8, "otter": 0.7, "badger": 0.7,
    "baby chick": 0.45, "hatching chick": 0.45, "front-facing baby chick": 0.45, "bird": 0.5, "dove": 0.6,
    "feather": 0.4, "sauropod": 1.5, "T-Rex": 1.45, "dragon": 1.4, "lizard": 0.6, "whale": 1.4, "spouting whale": 1.4,
    "shark": 1.2, "dolphin": 1.1, "spiral shell": 0.45, "ant": 0.36, "evergreen tree": 1.5, "deciduous tree": 1.5,
    "palm tree": 1.5, "seedling": 0.55, "herb": 0.5, "shamrock": 0.45, "four leaf clover": 0.45, "maple leaf": 0.45,
    "fallen leaf": 0.45, "mushroom": 0.55, "watermelon": 0.7, "pineapple": 0.8, "blueberries": 0.5, "cherries": 0.5,
    "olive": 0.45, "strawberry": 0.48, "peanuts": 0.45, "beans": 0.45, "chestnut": 0.45, "ice": 0.45, "candy": 0.45,
    "birthday cake": 0.9, "skateboard": 0.75, "roller skate": 0.6, "kick scooter": 0.9, "bicycle": 1.1,
    "Christmas tree": 1.4, "teddy bear": 0.9, "guitar": 1.1, "maracas": 0.6, "flute": 0.7, "ring": 0.36,
    "gem stone": 0.45, "lipstick": 0.45, "coat": 0.95, "dress": 0.95, "kimono": 0.95, "couch and lamp": 1.5,
    "bed": 1.5, "bathtub": 1.4, "toilet": 1.1, "chair": 1.1, "door": 1.6, "computer mouse": 0.45, "pushpin": 0.36,
    "round pushpin": 0.36, "paperclip": 0.36, "linked paperclips": 0.4, "nut and bolt": 0.45, "safety pin": 0.4,
    "pill": 0.4, "game die": 0.45, "puzzle piece": 0.5, "chess pawn": 0.5, "ladder": 1.3, "microscope": 0.85,
    "wheel": 0.7, "oil drum": 0.9, "desktop computer": 1.0, "television": 1.0, "baseball": 0.45, "softball": 0.45,
    "yo-yo": 0.45, "pool 8 ball": 0.45, "candle": 0.55, "light bulb": 0.5, "watch": 0.5, "soap": 0.45, "sponge": 0.45,
    "shopping cart": 1.1, "fire extinguisher": 0.8, "goal net": 1.2,
}  # fmt: skip
# Heads without bodies, framed scenes, symbols, glyphs and rooms: they cannot stand on a table.
EXCLUDED = re.compile(
    r"face$|^oncoming|^pig nose|^wing$|spider web|microbe|^paw|wilted|rosette|leaf fluttering|nest|^empty|"
    r"o.clock|-thirty|suit$|joker|mahjong|playing cards|^station|^metro|bus stop|motorway|railway track|^construction|"
    r"departure|arrival|suspension|cableway|tramway|^seat|fireworks|sparkler|sparkles|moon viewing|carp|tanabata|"
    r"ribbon|ticket|pouring|clinking|cooking|chart|film frames|cinema|musical note|level|control|martial|window|"
    r"^elevator|mirror|shower$|^mouse trap|bubbles|arrow|stop sign|mobile phone off|dna|bookmark|^label|calendar|"
    r"page |card index|^link$|^chains|white cane|hammer and|cigarette|^bomb|dagger|swords|^x-ray|low battery|"
    r"police car light|"
    r"slot machine|sari|bikini|briefs|swimsuit|hair pick|prayer|flag in hole|wind chime|red envelope|toilet$|satellite$"
)


def write_sprites(package: Path, emoji_test: Path, out: Path) -> int:
    """Write one sheet for each category and sprites.json; returns the number of sprites.

    Args:
        package: The npm package's folder of WebP files named by code point.
        emoji_test: Unicode's emoji-test.txt, which names and groups them.
        out: Folder for the sheets.

    Raises:
        Unavailable: An input does not exist.
    """
    if not package.is_dir() or not emoji_test.is_file():
        raise Unavailable("Give the package's folder of WebP files and Unicode's emoji-test.txt.")
    by_category: dict[str, list[Sprite]] = defaultdict(list)
    for code, name, category in _list_emoji(emoji_test):
        if category in SIZES and not EXCLUDED.search(name) and (package / f"{code}.webp").is_file():
            size = SIZES_BY_NAME.get(name, SIZES[category])
            by_category[category].append(Sprite(code, name, category, size, len(by_category[category])))
    out.mkdir(parents=True, exist_ok=True)
    for category, members in by_category.items():
        sheet = Image.new("RGBA", (COLUMNS * CELL, -(-len(members) // COLUMNS) * CELL))
        for sprite in members:
            with Image.open(package / f"{sprite.code}.webp") as image:
                cell = image.convert("RGBA").resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (sprite.place % COLUMNS * CELL, sprite.place // COLUMNS * CELL))
        sheet.save(out / f"{category.replace(' ', '-')}.webp", quality=QUALITY, method=6)
    sprites = sorted(itertools.chain.from_iterable(by_category.values()), key=attrgetter("code"))
    lines = ",\n".join(json.dumps(asdict(sprite)) for sprite in sprites)
    (out / "sprites.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return len(sprites)


def _list_emoji(emoji_test: Path) -> list[tuple[str, str, str]]:
    """Code, name and subgroup of every fully qualified emoji."""
    emoji, category = [], ""
    for line in emoji_test.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup: "):
            category = line.removeprefix("# subgroup: ")
        elif "; fully-qualified" in line:
            code = "-".join(line.split(";")[0].lower().split())
            emoji.append((code, re.split(r" E\d+\.\d+ ", line)[1], category))
    return emoji
