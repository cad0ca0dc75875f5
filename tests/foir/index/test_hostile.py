"""Hostile indexes: each is refused in one sentence or opened safely, in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.foir.index.hostile.trial import SAFE

ROOT, PROCESSES = Path(__file__).parents[3], 2
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads memory from /proc")


def test_every_hostile_index_is_refused_in_a_sentence_or_opens_safely(tmp_path):
    children = []
    for part in range(PROCESSES):
        (tmp_path / str(part)).mkdir()
        command = [sys.executable, "-m", "tests.foir.index.hostile.trial", tmp_path / str(part), part, PROCESSES]
        children.append(
            subprocess.Popen(
                [*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
        )
    told = [json.loads(line) for child in children for line in child.communicate()[0].splitlines()]
    assert [child.returncode for child in children] == [0] * PROCESSES
    assert len(told) >= 100
    assert {one["outcome"] for one in told} >= set(SAFE)
    assert [one for one in told if one["outcome"] not in SAFE] == []
