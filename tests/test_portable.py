"""What POSIX alone has is hidden: foir imports, builds and searches without `fcntl` and `resource`."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import draw

ROOT = Path(__file__).parents[1]
CODE = """
import builtins, sys

real = builtins.__import__


def hidden(name, globals=None, *rest, **named):
    ours = str((globals or {}).get("__name__", "")).startswith(("foir", "index_build", "eval"))
    if ours and name in ("fcntl", "resource"):
        raise ModuleNotFoundError(name)
    return real(name, globals, *rest, **named)


builtins.__import__ = hidden
import tests.conftest
from pathlib import Path
from foir import Index, Searcher, Unavailable
from foir.index.lock import exclusive_lock
from index_build.cli import main

folder, out = sys.argv[1:]
assert main(["build", folder, "--out", out, "--encoder", "toy", "--heads", "--device", "cpu"]) == 0
Path(folder, "00.png").unlink()
assert main(["update", out, "--device", "cpu"]) == 0 and main(["gc", out]) == 0
assert len(Index.open(out)) == 2
lock = Path(out).with_name("index.lock")
with exclusive_lock(Path(out)):
    assert lock.exists()
    try:
        with exclusive_lock(Path(out)):
            raise AssertionError("locked twice")
    except Unavailable as error:
        assert str(lock) in str(error)
assert not lock.exists()
"""


def test_an_index_lives_without_posix_modules(tmp_path):
    pictures = draw(tmp_path / "pictures", 3)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(pictures), str(tmp_path / "index")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
