"""Reading a stranger's tables in a process of limited memory first.

A small file of parquet can claim to become gigabytes, and the library that reads it knows no limit. A process that
takes more than the limit is refused memory and ends; nobody else is harmed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from foir.child_process import limit_memory, python_command
from foir.errors import BadIndex
from foir.index import tables

_CODE = "import sys; from foir.index.probe import main; main(*sys.argv[1:])"
SMALL = 2**14  # bytes; Zstandard makes at most 2^15 times as many of them: half a gigabyte
MEMORY = 3 * 2**30  # address space for the libraries and a page of a table
ROW_MEMORY = 2**15  # for each image
SECONDS, ROWS_A_SECOND = 120, 20_000


def probe_tables(folder: Path, items: str, objects: str | None, rows: int) -> None:
    """Read tables in a process of limited memory.

    Raises:
        BadIndex: It did not succeed.
    """
    names = [name for name in (items, objects) if name is not None]
    if all((folder / name).stat().st_size <= SMALL and tables.is_flat(folder, name) for name in names):
        return
    command = python_command(_CODE, str(folder.resolve()), items, objects or "", str(rows))
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each thread would take addresses
    seconds = SECONDS + rows / ROWS_A_SECOND
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=seconds)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise BadIndex(f"The tables of the index {folder} take too long to read.") from error
    if done.returncode:
        raise BadIndex(f"The tables of the index {folder} cannot be read safely: do not use it.")


def main(folder: str, items: str, objects: str, rows: str) -> None:
    """Read the tables as `Index.open` will."""
    limit_memory(MEMORY + int(rows) * ROW_MEMORY)
    tables.read_items(Path(folder), items, int(rows))
    tables.read_objects(Path(folder), objects or None, int(rows))
