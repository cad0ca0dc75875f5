"""Hostile indexes: how many are refused, how many open safely, and what the worst takes of memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

PROCESSES = 2
ROOT = Path(__file__).parents[2]


def measure() -> list[str]:
    told = tried()
    outcomes = Counter(one["outcome"] for one in told)
    refused, opened = outcomes.pop("refused"), outcomes.pop("opened")
    wrong = ", ".join(f"{number} {name}" for name, number in outcomes.items()) or "0 tracebacks"
    worst = max(told, key=lambda one: one["megabytes"])
    return [
        f"{len(told)} hostile indexes: {refused} refused in a sentence, {opened} opened safely, {wrong}",
        f"worst peak {worst['megabytes']:.0f} MB ({worst['name']})",
        *(f"  {one['outcome']} in {one['step']}: {one['name']}" for one in told if one["outcome"] in outcomes),
    ]


def tried(every: int = 1) -> list[dict[str, Any]]:
    """What came of every `every`-th; see `tests.foir.index.hostile.trial`."""
    with tempfile.TemporaryDirectory() as base:
        children = []
        for part in range(PROCESSES):
            folder = Path(base) / str(part)
            folder.mkdir()
            command = [sys.executable, "-m", "tests.foir.index.hostile.trial", folder, part, PROCESSES * every]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            children.append(
                subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
            )
        told = [json.loads(line) for child in children for line in child.communicate()[0].splitlines()]
    if any(child.returncode for child in children):
        raise RuntimeError("A process that tries hostile indexes came to no end.")
    return told
