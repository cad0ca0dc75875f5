"""Add a collection in a separate process: start it, follow its progress, stop it.

The process is the command line of `index_build`, which resumes where it was killed. Stopping the job, closing the page
or a crash costs at most the last chunk. Progress is read from its progress bar.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import IO, cast

from foir import encoders, hub
from foir.errors import BadPrompt, Unavailable
from foir.index.format import MANIFEST
from foir.index.remote import local_folder, parse_address
from foir.mini import VERSION
from foir.regions.recipe import RegionRecipe

ROOT = Path(__file__).parents[2]
MODULE = "foir.index_build" if find_spec("foir.index_build") else "index_build"  # installed, or in a checkout
PROGRESS_BAR = re.compile(r"(\d+)/(\d+) \[")
ERROR_PREFIX = "index_build: "
OnSuccess = Callable[[str | Path, str], str]


@dataclass(frozen=True)
class Progress:
    """Progress of a job: `done` of `total` images or files; `total` is 0 until it is known."""

    title: str
    running: bool
    done: int = 0
    total: int = 0
    error: str = ""


class IndexingJob:
    """A process that builds, updates, downloads or verifies an index."""

    def __init__(
        self, title: str, address: str | Path, command: Sequence[str], on_success: OnSuccess, done_message: str = ""
    ) -> None:
        """Start the process.

        Args:
            title: Title of the collection.
            address: Address of the index.
            command: Arguments of `python -m index_build`.
            on_success: Adds the address under the title to the collections, and returns its key.
            done_message: What the page says at the end.
        """
        self.done_message = done_message or f"{title} was added and is searched now."
        self.title, self.address, self.key, self._on_success = title, address, "", on_success
        self._done, self._total, self._error, self._stopped = 0, 0, "Indexing ended before it was complete.", False
        self._process = subprocess.Popen(  # noqa: S603 - a list, so no shell reads what a user typed
            [sys.executable, "-m", MODULE, *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        # Universal newlines: the progress bar ends its lines with a carriage return.
        lines = io.TextIOWrapper(cast(IO[bytes], self._process.stderr), errors="replace", newline=None)
        self._reader = Thread(target=self._read, args=[lines], daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, source: str, encoder: str, *, tiles: bool, on_success: OnSuccess) -> IndexingJob:
        """Start a job for a folder or an address on the Hub; see `Collections.start_job`.

        Raises:
            BadPrompt: The source is neither.
            Unavailable: The address is not one of an index.
        """
        source = source.strip()
        if source.startswith("hf:"):
            parse_address(source)
            command = ["pull", source, "--out", str(local_folder(source))]
            return cls(source.removeprefix("hf://datasets/"), source, command, on_success)
        if not source:
            raise BadPrompt("Enter a folder.")
        try:
            folder = Path(source).expanduser().resolve()
            exists, is_index = folder.is_dir(), (folder / MANIFEST).exists()
        except (OSError, RuntimeError, ValueError):
            exists = False
        if not exists:
            raise BadPrompt(f"There is no folder {source}, or it cannot be read.")
        if is_index:
            return cls(folder.name, folder, ["verify", str(folder)], on_success)
        if encoder not in encoder_choices():
            raise BadPrompt(f"There is no such encoder: {encoder}.")
        recipe = RegionRecipe(views="tiles" if tiles else "whole")
        weights = VERSION if encoder == "mini" else ""  # another `mini` encodes the folder again
        key = hashlib.sha256(f"{folder}\n{encoder}{weights}\n{recipe.to_json()}".encode()).hexdigest()[:12]
        out = hub.cache_folder() / "indexes" / f"{folder.name}-{key}"
        if (out / MANIFEST).exists():
            return cls(folder.name, out, ["update", str(out), "--root", str(folder)], on_success)
        text = [] if encoder == "mini" else ["--text", "mini"]
        views = ["--region-views", recipe.views]
        build = ["build", str(folder), "--out", str(out), "--encoder", encoder, "--heads", *text, *views]
        return cls(folder.name, out, build, on_success)

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None or self._reader.is_alive()

    @property
    def succeeded(self) -> bool:
        """Whether the process succeeded and the collection was added."""
        return not self.running and bool(self.key)

    def progress(self) -> Progress:
        """The current progress."""
        running = self.running
        error = "" if running or self.succeeded or self._stopped else self._error
        return Progress(self.title, running, self._done, self._total, error)

    def stop(self) -> None:
        """Stop the process. Its work is kept, and the next job resumes there."""
        self._stopped = True
        self._process.terminate()

    def _read(self, lines: io.TextIOWrapper) -> None:
        """Read the progress bar and the error message."""
        with lines:
            for line in lines:
                progress = PROGRESS_BAR.search(line)
                if progress is not None:
                    self._done, self._total = int(progress[1]), int(progress[2])
                elif line.startswith(ERROR_PREFIX):
                    self._error = line.removeprefix(ERROR_PREFIX).strip()
        if self._process.wait() == 0:
            self.key = self._on_success(self.address, self.title)


def move_to_trash(path: Path) -> None:
    """Move a file to the trash of this computer.

    Raises:
        Unavailable: That is not possible, for instance since the disk has none.
    """
    from send2trash import send2trash

    try:
        send2trash(path)
    except OSError as error:
        raise Unavailable(f"{path.name} cannot be moved to the trash: {error.strerror or error}.") from error


def encoder_choices() -> dict[str, str]:
    """Names and labels of the encoders that take prompts and are complete; "name:" is a family of checkpoints."""
    specs = (spec for spec in encoders.encoder_specs().values() if spec.promptable and not spec.name.endswith(":"))
    return {spec.name: f"{spec.name} ({spec.licence})" for spec in specs}
