"""Matrices of an index: memory-mapped safetensors files, and the check of a stranger's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

HEADER_BYTES = 2**20  # a longer header is refused
MAX_NORM = 1.02  # of a unit vector in float16; a longer one would come first in every search
CHUNK = 4096  # rows that are checked at once
_DTYPES = {"F16": np.float16, "F32": np.float32, "U16": np.uint16, "I32": np.int32}


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Memory-map the tensors of a safetensors file; the library itself would copy them into memory.

    One map serves all tensors of a file, since each map holds a file descriptor.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such file, or has an axis without an element.
    """
    with path.open("rb") as file:  # read, not mapped: a system can map a whole file around one byte
        length = _header_length(file.read(8), path.stat().st_size)
        header = file.read(length)
    return _tensors(header, np.memmap(str(path), np.uint8, "r"))  # of a Path, NumPy would resolve every part


def parse_tensors(data: bytes) -> dict[str, np.ndarray]:
    """The tensors in the bytes of a safetensors file.

    Raises:
        ValueError: See `map_tensors`.
    """
    return _tensors(data[8 : 8 + _header_length(data[:8], len(data))], np.frombuffer(data, np.uint8))


def _header_length(start: bytes, size: int) -> int:
    length = int.from_bytes(start, "little")
    if length > min(size, HEADER_BYTES):
        raise ValueError("a header that is too long")
    return length


def _tensors(header: bytes, whole: np.ndarray) -> dict[str, np.ndarray]:
    facts_by_name: dict[str, Any] = json.loads(header)
    first, tensors = 8 + len(header), {}
    for name, facts in facts_by_name.items():
        if name != "__metadata__":
            start, end = facts["data_offsets"]
            dtype = _DTYPES[facts["dtype"]]
            if min(facts["shape"]) < 1 or start < 0:
                raise ValueError("an axis without an element")
            tensors[name] = whole[first + start : first + end].view(dtype).reshape(facts["shape"])
    return tensors


def check_values(path: Path) -> None:
    """Check the numbers in a file: finite, and vectors no longer than unit vectors.

    Raises:
        OSError: It cannot be read.
        ValueError: They are not, or it is no file of tensors.
    """
    for name, tensor in map_tensors(path).items():
        for start in range(0, len(tensor) if tensor.dtype.kind == "f" else 0, CHUNK):
            rows = tensor[start : start + CHUNK].astype(np.float32)
            longest = float(np.einsum("ij,ij->i", rows, rows).max()) if name == "vectors" else 0.0
            if not np.isfinite(rows).all() or longest > MAX_NORM**2:
                raise ValueError("numbers that are no features")
