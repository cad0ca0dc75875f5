"""Adding a collection in a process of its own: what it is about, how far it is, and stopping it.

It is the command line of `index_build`, which goes on where it was when it is killed, so that stopping it, closing the
page or a crash costs nothing but the last pictures. Its progress is read off its progress bar.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, cast

from foir import encoders, hub
from foir.errors import BadPrompt
from foir.index.format import MANIFEST
from foir.index.remote import local_folder, parse_address

ROOT = Path(__file__).parents[2]
BAR = re.compile(r"(\d+)/(\d+) \[")
SAYS = "index_build: "
Arrived = Callable[[str | Path, str], str]


@dataclass(frozen=True)
class Progress:
    """How far it is: `done` of `total` pictures or files, `total` 0 where that is not known yet."""

    title: str
    running: bool
    done: int = 0
    total: int = 0
    error: str = ""


class IndexingJob:
    """A collection on its way."""

    def __init__(self, title: str, address: str | Path, command: Sequence[str], arrived: Arrived) -> None:
        """Set out.

        Args:
            title: What the collection is called.
            address: Where it will be.
            command: Arguments of `python -m index_build`.
            arrived: Takes the collection in when it is there, and gives its key.
        """
        self.title, self.address, self.key, self._arrived = title, address, "", arrived
        self._done, self._total, self._said, self._stopped = 0, 0, "It ended before it was done.", False
        self._process = subprocess.Popen(  # noqa: S603 - a list, so no shell reads what a visitor typed
            [sys.executable, "-m", "index_build", *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        # A carriage return ends a line too: a bar is drawn over itself.
        lines = io.TextIOWrapper(cast(IO[bytes], self._process.stderr), errors="replace", newline=None)
        self._listener = Thread(target=self._listen, args=[lines], daemon=True)
        self._listener.start()

    @classmethod
    def start(cls, said: str, encoder: str, *, small: bool, arrived: Arrived) -> IndexingJob:
        """Set out for a folder or for an address on the Hub; see `Collections.start_job`.

        Raises:
            BadPrompt: It is neither.
            Unavailable: It is no address of an index.
        """
        said = said.strip()
        if said.startswith("hf:"):
            parse_address(said)
            return cls(
                said.removeprefix("hf://datasets/"), said, ["pull", said, "--out", str(local_folder(said))], arrived
            )
        if not said:
            raise BadPrompt("Name a folder.")
        try:
            folder = Path(said).expanduser().resolve()
            there, indexed = folder.is_dir(), (folder / MANIFEST).exists()
        except (OSError, RuntimeError, ValueError):
            there = False
        if not there:
            raise BadPrompt(f"There is no folder {said}, or it cannot be read.")
        if indexed:  # an index already
            return cls(folder.name, folder, ["verify", str(folder)], arrived)
        if encoder not in encoder_choices():
            raise BadPrompt("There is no such encoder.")
        key = hashlib.sha256(f"{folder}\n{encoder}\n{small}".encode()).hexdigest()[:12]
        out = hub.cache_folder() / "indexes" / f"{folder.name}-{key}"
        if (out / MANIFEST).exists():
            return cls(folder.name, out, ["update", str(out)], arrived)
        words = [] if encoder == "mini" else ["--text", "mini"]
        objects = ["--objects", "mao"] if small else []
        build = ["build", str(folder), "--out", str(out), "--encoder", encoder, "--heads", *words, *objects]
        return cls(folder.name, out, build, arrived)

    @property
    def running(self) -> bool:
        """Whether it is still on its way."""
        return self._process.poll() is None or self._listener.is_alive()

    @property
    def succeeded(self) -> bool:
        """Whether it came to a good end, and was taken in."""
        return not self.running and bool(self.key)

    def progress(self) -> Progress:
        """How far it is now."""
        running = self.running
        problem = "" if running or self.succeeded or self._stopped else self._said
        return Progress(self.title, running, self._done, self._total, problem)

    def stop(self) -> None:
        """Give it up; what it has done is kept, and the next time goes on from there."""
        self._stopped = True
        self._process.terminate()

    def _listen(self, lines: io.TextIOWrapper) -> None:
        """Read its bar, and what it says at the end."""
        with lines:
            for line in lines:
                found = BAR.search(line)
                if found is not None:
                    self._done, self._total = int(found[1]), int(found[2])
                elif line.startswith(SAYS):
                    self._said = line.removeprefix(SAYS).strip()
        if self._process.wait() == 0:
            self.key = self._arrived(self.address, self.title)


def encoder_choices() -> dict[str, str]:
    """The encoders that a folder's pictures can be seen by, and what to call them."""
    whole = (card for card in encoders.encoder_specs().values() if card.promptable and not card.name.endswith(":"))
    return {card.name: f"{card.name} ({card.licence})" for card in whole}
