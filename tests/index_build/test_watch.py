"""A watched folder: what is added, renamed and removed is in the index within seconds, and nothing ends the watch."""

import time
from threading import Event, Thread

import pytest

from foir import FoirError, Index, Unavailable
from index_build import watch as watching
from index_build.changes import UpdateResult
from index_build.pipeline import Plan, build
from tests.conftest import draw, scene

SECONDS = 5.0  # in which a new photo is found


@pytest.fixture
def watched(tmp_path):
    """A folder of three pictures with its index, and what a watch over it reports."""
    pictures = draw(tmp_path / "pictures", 3)
    build(Plan(pictures, tmp_path / "index", "toy", device="cpu"))
    reports: list[UpdateResult] = []
    errors: list[FoirError] = []
    stop = Event()

    def run():
        watching.watch(tmp_path / "index", device="cpu", report=reports.append, report_error=errors.append, stop=stop)

    thread = Thread(target=run)
    thread.start()
    wait(lambda: reports, 60)
    yield pictures, tmp_path / "index", reports, errors
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def wait(is_so, seconds):
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < seconds
        time.sleep(0.05)
    return time.monotonic() - started


def files(out):
    return {item.file: item.id for item in Index.open(out).items()}


def test_changes_are_in_the_index_within_seconds(watched):
    pictures, out, reports, errors = watched
    scene(9).save(pictures / "new.png")
    wait(lambda: "new.png" in files(out), SECONDS)
    (pictures / "sub").mkdir()
    (pictures / "new.png").rename(pictures / "sub" / "moved.png")
    wait(lambda: files(out).get("sub/moved.png") == 3, SECONDS)
    (pictures / "00.png").unlink()
    wait(lambda: "00.png" not in files(out), SECONDS)
    assert not errors and reports[0] == UpdateResult()
    changed = [each for each in reports if each.added or each.moved or each.removed]
    assert [(each.added, each.moved, each.removed) for each in changed] == [
        (("new.png",), (), ()), ((), ("sub/moved.png",), ()), ((), (), ("00.png",)),
    ]  # fmt: skip


def test_a_folder_that_vanishes_is_said_and_comes_back(watched):
    pictures, out, _, errors = watched
    for path in sorted(pictures.iterdir()):
        path.rename(pictures.parent / path.name)
    wait(lambda: errors, SECONDS)
    assert "holds no images now" in str(errors[0]) and len(files(out)) == 3
    (pictures.parent / "01.png").rename(pictures / "01.png")
    wait(lambda: set(files(out)) == {"01.png"}, SECONDS)


def test_an_index_without_its_folder_is_not_watched(tmp_path):
    build(Plan(draw(tmp_path / "pictures", 2), tmp_path / "index", "toy", device="cpu", portable=True))
    with pytest.raises(Unavailable, match="is not known"):
        watching.watch(tmp_path / "index", report=print, report_error=print)
