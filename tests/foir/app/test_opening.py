"""The kept answer to the sample's opening query is what a search gives, and is never taken for another index."""

import json
import shutil
from functools import partial
from typing import Any

import numpy as np
import pytest

from foir import Index, Searcher
from foir.app.collections import SAMPLE, Collections
from foir.app.controller import Controller
from foir.app.opening import FILE, opening_of, read_opening


def test_the_kept_answer_is_that_of_a_search():
    index = Index.open(SAMPLE)
    controller = Controller(index, partial(Searcher.load, index, device="cpu", dtype="float32"), "key")
    live = json.loads(json.dumps(opening_of(controller.start(controller.capabilities.settings))))
    kept: Any = read_opening(SAMPLE, "key")
    assert kept["pointer"]["pending"] and kept["pointer"]["url"] == live["pointer"]["url"] == "thumb/key/0"
    images = ("heat", "outline")
    assert {name: value for name, value in kept["pointer"].items() if name not in images} == {
        name: value for name, value in live["pointer"].items() if name not in images
    }
    shown, found = kept["results"].pop("hits"), live["results"].pop("hits")
    assert kept["results"] == live["results"]
    assert [hit["url"] for hit in shown] == [hit["url"] for hit in found] and len(shown) == 24
    scores = np.array([[hit.pop("score") for hit in hits] for hits in (shown, found)])
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)
    assert shown == found


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("manifest.json", FILE):
        shutil.copy(SAMPLE / name, folder / name)
    return folder


def test_it_is_not_shown_for_another_build_of_the_sample(copy):
    assert read_opening(copy, "key") is not None
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"digest": "0" * 64}))
    assert read_opening(copy, "key") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"index": 3}', "\x00"])
def test_a_damaged_one_is_not_shown(copy, text):
    (copy / FILE).write_text(text)
    assert read_opening(copy, "key") is None
    (copy / FILE).unlink()
    assert read_opening(copy, "key") is None


def test_no_other_collection_shows_one(copy):
    collections = Collections([copy], lambda address, key: pytest.fail("not opened for this"))
    assert collections.opening() is None
    sample: Any = Collections([SAMPLE], lambda address, key: pytest.fail("nor this")).opening()
    assert sample["results"]["plain"]
