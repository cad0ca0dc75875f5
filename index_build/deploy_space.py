"""Putting the page on the Hugging Face Hub as a Space: its code, a card with front matter, its settings."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from foir import encoders, hub
from foir.index.loader import open_index

ROOT = Path(__file__).parents[1]
CODE = ("app.py", "foir", "LICENSE", "NOTICE")
PYTHON = "3.11"
# For tests, measurements and training alone; nothing of the page imports them.
LEFT_OUT = {"pytest", "playwright", "axe-playwright-python", "pycocotools", "pycocoevalcap", "matplotlib", "peft"}
FREE = {"torch"}  # a Space's hardware brings its own


def deploy(repo: str, *, indexes: Sequence[str] = (), private: bool = False) -> str:
    """Make a Space that serves the page, or bring it up to date.

    Args:
        repo: "owner/name" of the Space; HF_TOKEN must allow writing to it.
        indexes: `hf://datasets/USER/NAME[@COMMIT]` of the collections that it offers; the sample if left out.
        private: Make the Space private, if it is made.

    Returns:
        Its address.

    Raises:
        BadIndex: An index cannot be opened.
        Unavailable: An index or the Hub cannot be reached, or the Hub refuses.
    """
    opened = [open_index(index) for index in indexes]
    names = [space.encoder for index in opened for space in index.spaces.values()]
    hub.create_space(repo, private=private)
    hub.set_space_variable(repo, "FOIR_INDEX", ",".join(indexes) or None)
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        for name in CODE:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, stage / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, stage / name)
        (stage / "requirements.txt").write_text(pinned((ROOT / "requirements.txt").read_text("utf-8")), "utf-8")
        (stage / "README.md").write_text(card(names), "utf-8")
        hub.upload_folder(repo, stage, "foir", replaces=["foir/*"], space=True)
    return f"https://huggingface.co/spaces/{repo}"


def pinned(requirements: str) -> str:
    """What the page needs of a requirements file, at the versions that are installed here."""
    lines = []
    for line in requirements.splitlines():
        named = re.match(r"[A-Za-z0-9_.-]+", line)
        if named is None or named[0] in LEFT_OUT:
            continue
        extras = re.match(r"\[[^]]*\]", line[named.end() :])
        pin = line if named[0] in FREE else f"{named[0]}{extras[0] if extras else ''}=={version(named[0])}"
        lines.append(pin.split("+")[0])
    return "\n".join(lines) + "\n"


def card(names: Sequence[str]) -> str:
    """The Space's README: the front matter that the Hub builds it from, and what it is.

    Args:
        names: Encoders whose weights are fetched while the Space is built, not when the first visitor comes.
    """
    weights = {encoders.encoder_spec(name).weights for name in names}
    fetched = sorted(repo for repo in weights if re.fullmatch(r"[\w.-]+/[\w.-]+", repo))
    preload = "".join(f"- {repo}\n" for repo in fetched)
    return f"""---
title: foir
emoji: 🔎
colorFrom: yellow
colorTo: gray
sdk: gradio
sdk_version: {version("gradio")}
python_version: "{PYTHON}"
app_file: app.py
license: apache-2.0
short_description: Search that looks where you point
{"preload_from_hub:" + chr(10) + preload if preload else ""}---

Open a busy picture, point at one thing in it, and get the pictures that hold that thing, with the scene around it
still counting. Uploaded pictures stay in the memory of this Space for an hour at most and are shown to nobody else.
"""
