"""Maintenance of an index: verifying every byte, and removing unused files."""

from __future__ import annotations

import shlex
import shutil
from functools import cache
from pathlib import Path

from tqdm import tqdm

from foir.errors import BadIndex
from foir.index import Index, local_record
from foir.index.digest_cache import forget
from foir.index.format import is_thumb_intact, thumb_name, verify_file
from foir.index.gc import remove_unused
from foir.index.loader import open_index
from foir.index.lock import exclusive_lock
from foir.index.manifest import Manifest, read_manifest
from foir.regions.recipe import RegionRecipe

from .backends import drop_unused_rows
from .shards import PARTIAL


def find_damage(folder: Path) -> list[str]:
    """Read every byte of an index and describe each damage in a sentence.

    Raises:
        BadIndex: There is no index, or its manifest is damaged.
    """
    while True:
        manifest = read_manifest(folder)
        damage = _find_damage(folder, manifest)
        if not damage:
            return damage
        if read_manifest(folder).digest == manifest.digest:
            forget(folder)  # the next reader must not trust an earlier check
            return damage
        # else the index was changed in the meantime, and files of its old state may be gone


def _find_damage(folder: Path, manifest: Manifest) -> list[str]:
    repair = cache(lambda: _repair(folder, manifest))  # names the recipe of regions, which may be unknown
    damage = []
    for name, facts in tqdm(manifest.files.items(), "files", unit="file"):
        try:
            verify_file(folder, name, facts.sha256)
        except BadIndex:
            damage.append(f"The file {name} is missing or damaged: {repair()}.")
    if damage:
        return damage  # the thumbnails are listed in the items, which may be damaged
    index = open_index(folder)
    if not isinstance(index, Index):
        return []  # the database keeps its rows intact; opening the index counted them
    for digest in tqdm(sorted(index.thumbs()), "thumbnails", unit="file"):
        if not is_thumb_intact(folder, digest):
            check = f"foir index update {shlex.quote(str(folder))} --check repairs it"
            how = check if index.root else f"remove it, then {repair()}"
            damage.append(f"The thumbnail {thumb_name(digest)} is missing or damaged: {how}.")
    return damage


def _repair(folder: Path, manifest: Manifest) -> str:
    """What repairs a damaged file of an index."""
    out = shlex.quote(str(folder))
    if manifest.origin is not None:
        return f"foir index pull {manifest.origin} --out {out} fetches it again"
    root = local_record.root_of(folder, manifest)
    image, text = manifest.spaces["image"], manifest.spaces.get("text")
    options = ["--encoder", image.encoder]
    options += ["--heads"] if image.heads else []
    options += ["--text", text.encoder] if text is not None and text.encoder != image.encoder else []
    options += _region_options(manifest)
    source = "FOLDER" if root is None else shlex.quote(str(root))
    return f"foir index build {source} --out {out} {shlex.join(options)} builds the index again"


def _region_options(manifest: Manifest) -> list[str]:
    """The options of a build that makes the same regions."""
    if manifest.regions is None:
        return ["--regions", "0"]
    recipe, default = RegionRecipe.from_json(manifest.regions.recipe), RegionRecipe()
    names = {"limit": "--regions", "way": "--region-way", "views": "--region-views"}
    values = ((option, getattr(recipe, name), getattr(default, name)) for name, option in names.items())
    return [word for option, value, usual in values if value != usual for word in (option, str(value))]


def gc(folder: Path) -> int:
    """Remove what only older states of the index or killed builds used; returns the number of removed files.

    Raises:
        BadIndex: There is no index, or it is damaged. Nothing is removed then.
        Unavailable: It cannot be written, or a build is running.
    """
    open_index(folder)
    with exclusive_lock(folder):
        drop_unused_rows(folder)
        before = sum(path.is_file() for path in folder.rglob("*"))
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        remove_unused(folder)
        return before - sum(path.is_file() for path in folder.rglob("*"))
