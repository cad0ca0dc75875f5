"""Each hostile index in a process of its own: opened and used as a page, a command and a writer would, and measured.

`python -m tests.foir.index.hostile.trial FOLDER PART PARTS [WORD]` tries every PARTS-th attack whose name holds WORD
and prints a line of JSON for each: its `name`, the `outcome` ("refused" and "opened" are safe), the `step` it came to,
what was `said`, and `megabytes` beyond those that the process began with, and those of a `reader` that it started. One
process imports everything and forks.
"""

import importlib
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from foir.errors import FoirError
from foir.index import Index, digest_cache
from foir.index.loader import open_index
from tests import kill_points

from . import attacks, make_valid
from .draft import Draft
from .use import MAY_REFUSE, STEPS, fault

MEMORY, SECONDS = 512, 15  # MB beyond the start; seconds until an attack counts as one that hangs
ADDRESSES = 4 * 2**30  # bytes beyond the start: the machine is kept from harm, and a bomb can still be seen
SAFE = ("refused", "opened")


def in_fork(work: Callable[[], object], told: Path, *, limited: bool = False) -> dict[str, Any]:
    """What a function returned in a fork, as "value", or how it ended, and the memory that it took."""
    told.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(SECONDS)
            if limited:
                _limit()
            began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            told.write_text(json.dumps({"began": began}))
            answer = {"value": work(), "began": began, "ended": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
            told.write_text(json.dumps(answer | {"reader": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status, usage = os.wait4(pid, 0)
    answer = json.loads(told.read_text() or "{}")
    return {
        "status": os.waitstatus_to_exitcode(status),
        "megabytes": (answer.get("ended", usage.ru_maxrss) - answer.get("began", 0)) / 1024,
        "reader": answer.get("reader", 0) / 1024,
        "seconds": usage.ru_utime + usage.ru_stime,
        "value": answer.get("value"),
    }


def _limit() -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESSES, held + ADDRESSES))


def outcome(folder: Path, step: Path) -> dict[str, str]:
    """Open an index and use it; the step that is taken is written to a file, as it may be the last."""
    step.write_text("open")
    try:
        index = open_index(folder)
    except FoirError as error:
        return {"outcome": "harm" if fault(error) else "refused", "said": fault(error) or str(error)}
    except BaseException:
        return {"outcome": "traceback", "said": traceback.format_exc()[-1500:]}
    if not isinstance(index, Index):
        return {"outcome": "harm", "said": "it asks another database"}
    for work in (*STEPS, *MAY_REFUSE):
        step.write_text(work.__name__)
        try:
            work(index)
        except AssertionError as error:
            return {"outcome": "harm", "said": str(error)[:300]}
        except FoirError as error:
            if work in STEPS or fault(error):
                return {"outcome": "harm", "said": fault(error) or f"opened, but: {error}"}
        except BaseException:
            return {"outcome": "traceback", "said": traceback.format_exc()[-1500:]}
    return {"outcome": "opened", "said": ""}


def owners(case: Path) -> None:
    """What lies beside the index, and is no business of its maker."""
    private = case / "private"
    kill_points.picture(private / "secret.png", 99)
    os.mkfifo(private / "pipe")
    thumb = private / "thumbs" / "ab" / f"ab{'0' * 62}.jpg"
    thumb.parent.mkdir(parents=True)
    thumb.write_bytes(b"thumbnail of another index")
    (private / "0.json").write_text("{}")
    for name in ("secret.png", "0.json"):
        os.utime(private / name, (1, 1))


def beside(case: Path) -> list[str]:
    """All names beside the index."""
    return sorted(str(path.relative_to(case)) for path in case.rglob("*") if not path.is_relative_to(case / "index"))


def tried(valid: Path, case: Path, attack: Callable[[Draft], None]) -> dict[str, Any]:
    """Make a hostile index, use it, and say what came of it; see the module."""
    shutil.rmtree(case, ignore_errors=True)

    def prepare() -> list[str]:
        owners(case)
        draft = Draft(valid, case)
        attack(draft)
        draft.sign()
        return beside(case)

    told, step = case.with_name("told"), case.with_name("step")
    made = in_fork(prepare, told)
    if made["status"]:
        return {"outcome": "not made", "said": "", "step": "", "megabytes": 0, "seconds": 0, "made": made["seconds"]}
    used = in_fork(lambda: outcome(case / "index", step), told, limited=True)
    ended = {-signal.SIGALRM: "hung", 0: ""}.get(used["status"], f"ended with {used['status']}")
    answer = {"outcome": ended, "said": "", **(used["value"] or {})}
    if answer["outcome"] in SAFE and beside(case) != made["value"]:
        answer |= {"outcome": "harm", "said": "files beside the index came or went"}
    if answer["outcome"] in SAFE and used["megabytes"] > MEMORY:
        answer["outcome"] = "memory"
    taken = {name: round(used[name], 2) for name in ("megabytes", "reader", "seconds")}
    return answer | taken | {"step": step.read_text(), "made": round(made["seconds"], 2)}


def main(base: Path, part: int, parts: int, word: str = "") -> None:
    os.environ |= {"XDG_CACHE_HOME": str(base / "cache"), "XDG_STATE_HOME": str(base / "state"), "TQDM_DISABLE": "1"}
    torch.set_num_threads(1)
    os.fsync = lambda fd: None  # no disk is lost here
    digest_cache.SETTLED = 0  # the files have lain there for a while
    made = in_fork(lambda: str(make_valid(base / "valid")), base / "told")
    if made["status"]:
        raise AssertionError("no valid index could be made")
    valid = Path(made["value"])

    def used_modules() -> list[str]:
        outcome(valid, base / "step")
        return list(sys.modules)

    for name in in_fork(used_modules, base / "told")["value"]:
        with suppress(ImportError):
            importlib.import_module(name)
    for name, attack in list(attacks(valid).items())[part::parts]:
        if word in name:
            sys.stdout.write(json.dumps({"name": name, **tried(valid, base / "case", attack)}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
