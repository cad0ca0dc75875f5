"""Processes of this interpreter that work on what a stranger sent: whose modules they import, and how much memory."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

_PROLOGUE = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1))\n"


def python_command(code: str, *args: str) -> list[str]:
    """The command that runs code with the module paths of this process.

    It is code, not `-m`: that would look for modules in the current folder, which may be the stranger's.

    Args:
        code: Python source.
        args: Its `sys.argv[1:]`.
    """
    paths = json.dumps([*sys.path, str(Path(__file__).resolve().parents[1])])
    return [sys.executable, "-P", "-c", _PROLOGUE + code, paths, *args]


def limit_memory(limit: int) -> None:
    """Limit the addresses of this process to so many bytes, and write no core dumps, where the system can."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
