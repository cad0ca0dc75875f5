"""Deploying the page as a Space of the Hugging Face Hub: its code, pinned requirements, a card and its settings.

Works from a checkout and from an installed package. A Space gets the `foir` package, without the commands that are
installed inside it: only the page of a local user starts those.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import tomllib
from collections.abc import Sequence
from importlib.metadata import distributions, version
from pathlib import Path

import foir
from foir import encoders, hub
from foir.index.loader import open_index

ROOT = Path(foir.__file__).parents[1]  # the checkout, or site-packages
APP = '''"""Start the page: `python app.py`, the same as `foir serve`."""

import sys

from foir.app.serve import main

if __name__ == "__main__":
    sys.exit(main())
'''
COMMANDS = ("eval", "index_build")  # installed inside foir
LICENCES = ("LICENSE", "NOTICE")
PYTHON = "3.11"
UNPINNED = {"torch", "torchvision"}  # the hardware of a Space brings its own


def deploy(repo: str, *, indexes: Sequence[str] = (), private: bool = True) -> str:
    """Create a Space that serves the page, or bring it up to date.

    Args:
        repo: "owner/name" of the Space; HF_TOKEN must allow writing to it.
        indexes: `hf://datasets/USER/NAME[@COMMIT]` of its collections; the sample if left out.
        private: Make the Space private if it is created.

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
        write_files(stage, names)
        hub.upload_folder(repo, stage, "foir", replaces=["foir/*"], space=True)
    return f"https://huggingface.co/spaces/{repo}"


def write_files(stage: Path, encoder_names: Sequence[str] = (), root: Path = ROOT) -> None:
    """Write the files of a Space.

    Args:
        stage: An empty folder.
        encoder_names: See `card`.
        root: The folder that holds the foir package: a checkout, or site-packages.
    """

    def excluded(folder: str, names: list[str]) -> list[str]:
        return ["__pycache__", *(COMMANDS if Path(folder) == root / "foir" else ())]

    shutil.copytree(root / "foir", stage / "foir", ignore=excluded)
    for path in (*root.iterdir(), *root.glob("foir-*.dist-info/licenses/*")):
        if path.name in LICENCES:
            shutil.copy(path, stage)
    (stage / "app.py").write_text(APP, "utf-8")
    (stage / "requirements.txt").write_text(pin_requirements(_requirements(root)), "utf-8")
    (stage / "README.md").write_text(card(encoder_names), "utf-8")


def _requirements(root: Path) -> list[str]:
    """The dependencies that foir declares, without its extras: in the checkout, or as an installed package."""
    project = root / "pyproject.toml"
    if project.exists():
        return list(tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"])
    installed = next(iter(distributions(name="foir", path=[str(root)])))
    return [line.split(";")[0].strip() for line in installed.requires or () if "extra ==" not in line]


def pin_requirements(requirements: Sequence[str]) -> str:
    """Requirements pinned to the versions that are installed here."""
    lines = []
    for line in requirements:
        name, extras = re.findall(r"^([\w.-]+)(\[[^]]*\])?", line)[0]
        pin = line if name in UNPINNED else f"{name}{extras}=={version(name)}"
        lines.append(pin.split("+")[0])
    return "\n".join(lines) + "\n"


def card(encoder_names: Sequence[str]) -> str:
    """The README of the Space: the front matter that the Hub builds it from, and a description.

    Args:
        encoder_names: Encoders whose weights are fetched when the Space is built, not at the first visit.
    """
    weights = {encoders.encoder_spec(name).weights for name in encoder_names}
    terms = " ".join(encoders.weight_terms([*encoder_names, "mini"]))  # its weights are part of the package
    repos = sorted(repo for repo in weights if hub.REPOSITORY.fullmatch(repo))
    preload = "".join(f"- {repo}\n" for repo in repos)
    return f"""---
title: foir
emoji: 🔎
colorFrom: yellow
colorTo: gray
sdk: gradio
sdk_version: {version("gradio")}
python_version: "{PYTHON}"
app_file: app.py
license: other
short_description: Search that looks where you point
{"preload_from_hub:" + chr(10) + preload if preload else ""}---

Open a busy image and point at an object in it. The results show that object, and the scene around it still counts.
Uploaded images stay in the memory of this Space for an hour at most and are shown to nobody else.

The code is licensed under Apache-2.0; NOTICE lists what it contains. {terms}
"""
