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
# Heights relative to a cat, by category and for single names, and patterns of excluded names. All sprites are toys in a
# room: an elephant is large, but no house. Heads without bodies, framed scenes, symbols, glyphs and rooms are excluded,
# because they cannot stand on a table.
SELECTION = json.loads(Path(__file__).with_name("sprite_sizes.json").read_text("utf-8"))
EXCLUDED = re.compile("|".join(SELECTION["excluded"]))


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
    sizes, sizes_by_name = SELECTION["categories"], SELECTION["names"]
    by_category: dict[str, list[Sprite]] = defaultdict(list)
    for code, name, category in _list_emoji(emoji_test):
        if category in sizes and not EXCLUDED.search(name) and (package / f"{code}.webp").is_file():
            size = sizes_by_name.get(name, sizes[category])
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
