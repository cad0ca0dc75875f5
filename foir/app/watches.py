"""Collections that are kept up to date with their folders, each by a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Thread
from typing import IO, cast

from foir.app.jobs import MODULE, ROOT

NEWS = re.compile(r"[1-9]")  # in a line such as "3 images added, 0 encoded again, 0 removed"


class Watches:
    """The watches of a page. Thread-safe."""

    def __init__(self, on_news: Callable[[str], None]) -> None:
        """Watch nothing yet; `on_news` gets the key of a collection that changed."""
        self._on_news, self._lock = on_news, Lock()
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def watches(self, key: str) -> bool:
        """Whether a collection is kept up to date."""
        with self._lock:
            process = self._processes.get(key)
            return process is not None and process.poll() is None

    def start(self, key: str, index: Path) -> None:
        """Keep a collection up to date until it is stopped; `index` is an absolute path."""
        with self._lock:
            known = self._processes.get(key)
            if known is not None and known.poll() is None:
                return
            process = self._processes[key] = subprocess.Popen(  # noqa: S603 - a list, so no shell reads a name
                [sys.executable, "-m", MODULE, "watch", str(index)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        Thread(target=self._follow, args=[key, process], daemon=True).start()

    def stop(self, key: str) -> None:
        """Stop keeping a collection up to date."""
        with self._lock:
            process = self._processes.pop(key, None)
        if process is not None:
            process.terminate()

    def stop_all(self) -> None:
        """Stop every watch."""
        for key in list(self._processes):
            self.stop(key)

    def _follow(self, key: str, process: subprocess.Popen[str]) -> None:
        with cast(IO[str], process.stdout) as lines:
            for line in lines:
                if NEWS.search(line):
                    self._on_news(key)
        process.wait()
