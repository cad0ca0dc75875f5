"""Results kept between runs: arrays named by all that went into them, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

FORMAT = 1  # raise it when the meaning of what is kept changes


class ResultsCache:
    """A folder of arrays."""

    def __init__(self, folder: Path) -> None:
        """Keep them in `folder`, which is made when the first is written."""
        self.folder = folder

    def get(self, facts: Any, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What was kept under these facts, else what `make` gives, kept from now on.

        Args:
            facts: All that the result depends on, as JSON can write it.
            make: Gives named arrays.
        """
        name = hashlib.sha256(json.dumps([FORMAT, facts], sort_keys=True).encode()).hexdigest()[:32]
        path = self.folder / f"{name}.npz"
        try:
            with np.load(path) as kept:
                return {key: kept[key] for key in kept.files}
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):  # absent, or cut short by a full disk: made again
            pass
        arrays = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(path)
        return arrays
