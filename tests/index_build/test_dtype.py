"""An index names its dtype; a killed build's is kept; pages and updates of another dtype fit."""

import json

import pytest

from foir import Index
from foir.prompts import Prompt
from foir.search.query import Query
from foir.search.searcher import Searcher
from index_build import pipeline
from index_build.first_dtype import FILE
from index_build.maintenance import find_damage
from index_build.pipeline import Plan, build
from index_build.shards import PARTIAL
from index_build.update import update
from tests.conftest import scene
from tests.index_build.conftest import interrupt, make


@pytest.fixture
def killed(folder, four_a_shard, monkeypatch):
    """What a build in bfloat16 left, on a machine that has slower bfloat16 now."""
    monkeypatch.setenv("FOIR_DTYPE", "bfloat16")
    interrupt(folder, folder.parent / "index", monkeypatch)
    monkeypatch.setenv("FOIR_DTYPE", "float32")
    return folder.parent / "index"


def test_a_build_that_was_killed_goes_on_in_its_dtype(folder, killed):
    assert json.loads((killed / PARTIAL / FILE).read_bytes()) == ["toy", "bfloat16"]
    assert make(folder, killed, heads=True).resumed
    assert Index.open(killed).space().dtype == "bfloat16"
    assert find_damage(killed) == []


def test_the_workers_of_a_cluster_load_encoders_in_that_dtype(folder, killed, monkeypatch):
    loaded = []

    def open_executor(ray, load, out, thumb_side):
        loaded.append(load().records["image"].dtype)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "open_executor", open_executor)
    with pytest.raises(KeyboardInterrupt):
        make(folder, killed, heads=True, ray="ray://cluster:10001")
    assert loaded == ["bfloat16"]


@pytest.mark.parametrize(
    "junk", [b"int8", b"", b"\xff\xfe", b"5", b'["toy", "int8"]', b'["toy", 5]', b'["mini", "bfloat16"]']
)
def test_a_damaged_note_of_the_dtype_counts_as_none(folder, junk):
    out = folder.parent / "index"
    (out / PARTIAL).mkdir(parents=True)
    (out / PARTIAL / FILE).write_bytes(junk)
    make(folder, out)
    assert Index.open(out).space().dtype == "float32"


def test_a_dtype_that_is_asked_for_makes_all_shards_in_it(folder, four_a_shard, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    assert make(folder, out, heads=True, dtype="bfloat16").resumed == 0
    assert Index.open(out).space().dtype == "bfloat16"


def test_pages_and_updates_in_float32_fit_an_index_in_bfloat16(folder):
    indexes = {dtype: folder.parent / dtype for dtype in ("float32", "bfloat16")}
    for dtype, out in indexes.items():
        build(Plan(folder, out, "toy", device="cpu", dtype=dtype))
    searchers = [Searcher.load(out, device="cpu", dtype="float32") for out in indexes.values()]
    scene(60).save(folder / "new.png")
    assert update(indexes["bfloat16"], device="cpu", dtype="float32").added == ("new.png",)
    found: list[dict[str, float]] = []
    for searcher in searchers:
        query = Query(searcher.open(folder / "a" / "03.png"), Prompt.box(20, 10, 80, 70), k=10)
        results = searcher.search(query)
        assert results.similarities is not None
        found.append(dict(zip((item.file for item in results.items), results.similarities.tolist(), strict=True)))
    assert found[0].keys() == found[1].keys()
    for name, similarity in found[0].items():
        assert found[1][name] == pytest.approx(similarity, abs=0.02)
