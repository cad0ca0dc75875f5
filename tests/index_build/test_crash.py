"""Builds and changes killed with SIGKILL: afterwards a reader sees the old index or the new one, never a mixture."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from foir import Index
from index_build.shards import PARTIAL
from tests.conftest import draw

ROOT = Path(__file__).parents[2]


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )


def test_every_operation_killed_before_each_of_its_file_operations_and_requests(tmp_path):
    done = run("-m", "tests.kill_points", tmp_path, "0", "3", TQDM_DISABLE="1")  # every third; kills.py tries all
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert not told["torch"]
    moments = {name: before_changes for name, (before_changes, _) in told["moments"].items()}
    changes = {"build", "rebuild", "update", "add", "remove", "gc"}
    assert set(moments) == changes | {"publish", "pull", "pull of a change"}
    assert all(moments.values()) and sum(moments.values()) >= 40


CHILD = """
import sys
from pathlib import Path
from index_build import pipeline
pipeline.SHARD_SIZE = 2
pipeline.build(pipeline.Plan(Path(sys.argv[1]), Path(sys.argv[2]), "mini", heads=True, device="cpu"))
"""


def test_a_build_with_mini_killed_in_the_middle_ends_in_the_same_bytes(tmp_path):
    """The same device, threads and library versions, so the same bits."""
    pictures, script = draw(tmp_path / "pictures", 8), tmp_path / "child.py"
    script.write_text(CHILD)
    command = [sys.executable, str(script), str(pictures)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    broken = tmp_path / "broken"
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen([*command, str(broken)], env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not list((broken / PARTIAL).glob("*.json")):
            assert child.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.01)
        child.kill()
        child.wait()
    assert not (broken / "manifest.json").exists()
    for out in (broken, tmp_path / "unbroken"):
        subprocess.run([*command, str(out)], env=environment, check=True, capture_output=True)
    trees = [
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (broken, tmp_path / "unbroken")
    ]
    assert trees[0] == trees[1]
    assert len(Index.open(broken)) == 8
