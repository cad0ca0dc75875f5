"""Load on the app: searches answered in a minute, failed searches, and memory after a thousand queries."""

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
QUERIES, WARM = 1000, 200  # one after the other, and the number before the first measurement of memory
PICTURES = 600  # of the sample gallery
RETRY_MESSAGE = "try again"  # the error where the queue is full
SERVE = "from foir.app.serve import main; raise SystemExit(main())"


@dataclass
class Answers:
    """Seconds of each answer, the number of refusals by a full queue, and all other errors."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    errors: list[str] = field(default_factory=list)


def main() -> str:
    """Measure the page on the sample gallery; returns a Markdown table."""
    lines = ["| clients | answered in a minute | median s | slowest s | refused | lost |", "|---|---|---|---|---|---|"]
    with served() as (address, process):
        for clients in (CLIENTS, CROWD):
            answers = crowd(address, clients, SECONDS)
            median = statistics.median(answers.seconds)
            slowest = max(answers.seconds)
            row = (len(answers.seconds), f"{median:.1f}", f"{slowest:.1f}", answers.refused, len(answers.errors))
            lines.append(f"| {clients} | " + " | ".join(map(str, row)) + " |")
        first, last = memory(address, process.pid)
    lines += ["", f"Resident memory of the page after {WARM} more queries: {first} MB, after {QUERIES}: {last} MB."]
    return "\n".join(lines)


@contextmanager
def served() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run the page in a separate process until it answers: its address and the process.

    Raises:
        Unavailable: It did not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    address, command = f"http://127.0.0.1:{port}", [sys.executable, "-c", SERVE, "--index", str(SAMPLE)]
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
    """Run clients that search again at each answer, with a random image of the collection."""
    answers, lock = Answers(), threading.Lock()
    connections = [_client(address) for _ in range(clients)]
    end = time.monotonic() + seconds

    def ask_again(number: int) -> None:
        client, rng = connections[number], random.Random(number)  # noqa: S311 - no secret
        while time.monotonic() < end:
            started = time.monotonic()
            problem = _ask(client, rng, pictures)
            with lock:
                if problem is None:
                    answers.seconds.append(time.monotonic() - started)
                elif RETRY_MESSAGE in problem:
                    answers.refused += 1
                else:
                    answers.errors.append(problem)
            if problem is not None:
                time.sleep(1)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask_again, range(clients)))
    return answers


def memory(address: str, pid: int) -> tuple[int, int]:
    """Resident megabytes of the process after WARM and after QUERIES queries."""
    client, rng, megabytes = _client(address), random.Random(0), []  # noqa: S311 - no secret
    for number in range(1, QUERIES + 1):
        _ask(client, rng, PICTURES)
        if number in (WARM, QUERIES):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") // 2**20)
    return megabytes[0], megabytes[1]


def _client(address: str) -> Any:
    from gradio_client import Client

    return Client(address, verbose=False)


def _ask(client: Any, rng: random.Random, pictures: int) -> str | None:
    """Run one search; its error, if there is one."""
    x, y = rng.uniform(0, 100), rng.uniform(0, 80)
    arguments = {"item": rng.randrange(pictures), "boxes": [[x, y, x + 20, y + 20]], "k": 12}
    try:
        results = client.predict(**arguments, api_name="/search")
    except Exception as error:  # every error counts
        return f"{type(error).__name__}: {error}"
    return None if len(results) == 12 else f"{len(results)} results"
