"""A cache of results between runs: arrays keyed by all that they depend on, so that a killed run can be resumed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from foir.errors import os_errors
from foir.index.writer import atomic_write

FORMAT = 3  # to be raised when the meaning of the arrays changes


class ResultsCache:
    """A folder of arrays."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is created at the first write."""
        self.folder = folder

    def get(self, key: Any, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the arrays of a key; compute and write them if they are missing or damaged.

        Args:
            key: All that the result depends on; must be JSON-serialisable.
            compute: Returns named arrays.
        """
        name = hashlib.sha256(json.dumps([FORMAT, key], sort_keys=True).encode()).hexdigest()[:32]
        path = self.folder / f"{name}.npz"
        try:
            with np.load(path) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):  # missing, or cut short by a full disk
            pass
        arrays = compute()
        with os_errors(f"The results {path} cannot be written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
            atomic_write(path, buffer.getvalue(), durable=False)
        return arrays
