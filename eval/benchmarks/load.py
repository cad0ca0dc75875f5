"""Many at once: what the page answers in a minute, whether a search is lost, what a thousand leave in memory."""

from __future__ import annotations

import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import foir
from foir.app.collections import SAMPLE
from foir.errors import Unavailable

ROOT = Path(foir.__file__).parents[1]
CLIENTS, CROWD, SECONDS = 32, 48, 60.0
QUERIES, WARM = 1000, 200  # one after the other, and after how many memory is looked at first
PICTURES = 600  # of the sample gallery
POLITE = "try again"  # what those are told whom the queue has no place for


@dataclass
class Answers:
    """What clients got: seconds of each answer, how many were asked to come again, and everything else that came."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    errors: list[str] = field(default_factory=list)


def main() -> str:
    """Measure the page on the sample gallery; returns a Markdown table."""
    lines = [
        "| clients | answered in a minute | median s | slowest s | asked to try again | lost |",
        "|---|---|---|---|---|---|",
    ]
    with served() as (address, process):
        for clients in (CLIENTS, CROWD):
            told = crowd(address, clients, SECONDS)
            median = statistics.median(told.seconds)
            row = (len(told.seconds), f"{median:.1f}", f"{max(told.seconds):.1f}", told.refused, len(told.errors))
            lines.append(f"| {clients} | " + " | ".join(map(str, row)) + " |")
        first, last = memory(address, process.pid)
    lines += ["", f"Resident memory of the page after {WARM} more queries: {first} MB, after {QUERIES}: {last} MB."]
    return "\n".join(lines)


@contextmanager
def served() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`python app.py` in a process of its own, up and warm: its address and the process.

    Raises:
        Unavailable: It did not come up.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    address, command = f"http://127.0.0.1:{port}", [sys.executable, "app.py", "--index", str(SAMPLE)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(address, timeout=2).close()  # noqa: S310 - its own address
                    break
                except OSError:
                    time.sleep(0.5)
                if process.poll() is not None:
                    raise Unavailable("The page ended while it started.")
            _ask(_client(address), random.Random(0), 1)  # noqa: S311 - it answers when the model is loaded
            yield address, process
        finally:
            process.terminate()


def crowd(address: str, clients: int, seconds: float, pictures: int = PICTURES) -> Answers:
    """Clients that each ask again as soon as they have an answer, with one of the collection's pictures."""
    told, lock = Answers(), threading.Lock()
    ready = [_client(address) for _ in range(clients)]
    end = time.monotonic() + seconds

    def one(number: int) -> None:
        client, rng = ready[number], random.Random(number)  # noqa: S311 - which picture is asked for
        while time.monotonic() < end:
            started = time.monotonic()
            problem = _ask(client, rng, pictures)
            with lock:
                if problem is None:
                    told.seconds.append(time.monotonic() - started)
                elif POLITE in problem:
                    told.refused += 1
                else:
                    told.errors.append(problem)
            if problem is not None:
                time.sleep(1)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(clients)))
    return told


def memory(address: str, pid: int) -> tuple[int, int]:
    """Megabytes that the process holds after WARM and after QUERIES queries, one after the other."""
    client, rng, held = _client(address), random.Random(0), []  # noqa: S311 - which picture is asked for
    for number in range(1, QUERIES + 1):
        _ask(client, rng, PICTURES)
        if number in (WARM, QUERIES):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            held.append(pages * os.sysconf("SC_PAGE_SIZE") // 2**20)
    return held[0], held[1]


def _client(address: str) -> Any:
    from gradio_client import Client

    return Client(address, verbose=False)


def _ask(client: Any, rng: random.Random, pictures: int) -> str | None:
    """One search; what went wrong, if anything."""
    x, y = rng.uniform(0, 100), rng.uniform(0, 80)
    asked = {"item": rng.randrange(pictures), "boxes": [[x, y, x + 20, y + 20]], "k": 12}
    try:
        found = client.predict(**asked, api_name="/search")
    except Exception as error:  # whatever a client may meet is what is counted here
        return f"{type(error).__name__}: {error}"
    return None if len(found) == 12 else f"{len(found)} results"
