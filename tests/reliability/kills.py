"""Kills survived: SIGKILL before every change and request of each operation, and at random moments."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

AT_RANDOM = 10  # times, of each operation
ROOT = Path(__file__).parents[2]


def measure() -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.kill_points", folder, str(AT_RANDOM)]
        environment = os.environ | {"TQDM_DISABLE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        return f"an operation did not survive: {done.stderr.strip().splitlines()[-1]}"
    moments = json.loads(done.stdout)["moments"]
    each = ", ".join(f"{name} {sum(numbers)}" for name, numbers in moments.items())
    return f"{sum(map(sum, moments.values()))} kills survived of as many ({each})"
