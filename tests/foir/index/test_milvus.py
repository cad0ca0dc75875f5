"""An index whose rows are kept in Milvus: the same answers as from files, by the same Searcher and the same page."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foir import BadIndex, BadPrompt, Index, Prompt, Searcher, Unavailable, encoders
from foir.app.controller import Controller
from foir.app.sessions import Settings
from foir.cli.main import main as ask
from foir.index import Object
from foir.index.loader import open_index
from foir.search.query import Feedback, Query
from index_build.cli import main
from index_build.milvus_store import parse_store
from index_build.pipeline import Plan, build
from index_build.sources import Metadata
from tests.conftest import draw

COUNT = 40
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same pictures as an index in files and as one in milvus-lite."""
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    root = tmp_path_factory.mktemp("milvus")
    pictures = draw(root / "pictures", COUNT)
    (pictures / "05.png").write_bytes(b"no picture")
    box = Object(-1, (20.0, 10.0, 80.0, 70.0), None, "kind", None, 'a "thing"', None)
    known = {
        f"{n:02}.png": Metadata(f"Picture {n}.", "a source", "MIT" if n % 2 else None, (box,)) for n in range(COUNT)
    }
    plan: Any = {"heads": True, "device": "cpu", "metadata": known}
    build(Plan(pictures, root / "files", "toy-words", **plan))
    build(Plan(pictures, root / "kept", "toy-words", store=f"milvus:{root / 'photos.db'}", **plan))
    return root / "files", root / "kept"


@pytest.fixture(scope="module")
def searchers(both):
    return [Searcher(open_index(folder), encoders.load("toy-words", device="cpu")) for folder in both]


def search(searcher, **how):
    picture = (
        searcher.open(searcher.index.picture(searcher.index.get(how.pop("item", 3)))) if how.pop("own", True) else None
    )
    return searcher.search(Query(picture, how.pop("prompt", Prompt.box(20, 10, 80, 70) if picture else None), **how))


def answers(searcher, **how):
    hits = search(searcher, **how)
    return [item.id for item in hits.items], hits.scores


def test_the_folder_holds_no_vectors_but_the_background(both):
    files, kept = both
    assert (kept / "thumbs").is_dir()
    kinds = [sorted(path.name[32:] for path in folder.iterdir() if path.is_file()) for folder in (kept, files)]
    rest = ["-heads.safetensors", "-regions.safetensors", "-rejected.jsonl", ".safetensors"]
    assert kinds[0] == ["", *rest] and set(kinds[0]) < set(kinds[1])
    with pytest.raises(BadIndex, match="kept in"):
        Index.open(kept)


def test_what_it_knows_is_the_same(both):
    ours, theirs = open_index(both[1]), open_index(both[0])
    assert len(ours) == len(theirs) == COUNT - 1
    assert [ours.get(i) for i in (0, 3, 39)] == [theirs.get(i) for i in (0, 3, 39)]
    assert ours.objects(0) == theirs.objects(0) != ()
    assert ours.source_counts() == theirs.source_counts() and ours.bytes == theirs.bytes
    for name in ("image", "text"):
        np.testing.assert_allclose(ours.vectors(name, [7, 3]), theirs.vectors(name, [7, 3]), atol=1e-6)
        assert ours.space(name).encoder == theirs.space(name).encoder
    assert ours.regions is not None and theirs.regions is not None and ours.regions.recipe == theirs.regions.recipe
    np.testing.assert_allclose(ours.head_outputs(9), theirs.head_outputs(9), atol=1e-6)
    assert ours.thumb(ours.get(3)).read_bytes() == theirs.thumb(theirs.get(3)).read_bytes()
    assert ours.picture(ours.get(3)).name == "03.png"
    some = ours.sample(6)
    assert len(some) == 6 and len({item.id for item in some}) == 6
    assert {item.id for item in ours.sample(1000)} == {item.id for item in theirs.sample(1000)}
    for unknown in (5, 99, -1):
        with pytest.raises(BadIndex, match="no picture with id"):
            ours.get(unknown)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"prompt": None},
        {"mode": "query-db"},
        {"context": 1.0},
        {"mode": "query-db", "context": 1.0},
        {"prompt": Prompt.point(40, 50)},
        {"prompt": None, "negative_text": "thing 7"},
        {"text": "thing 6", "text_weight": 0.3, "context": 1.0},
        {"text": "thing 6", "negative_text": "thing 7"},
        {"own": False, "text": "thing 6"},
        {"own": False, "text": "thing 6", "negative_text": "thing 7"},
        {"text": "thing 6", "text_weight": 0.3},
        {"feedback": Feedback(liked=[7, 9], disliked=[11])},
        {"own": False, "text": "thing 6", "feedback": Feedback(liked=[7])},
        {"exclude": [3, 4, 8]},
        {"filters": {"licence": "MIT"}},
        {"own": False, "text": "thing 60", "filters": {"file": "06.png"}, "k": 3},
        {"filters": {"width": "100..200", "source": "a so*", "date": "2020..", "folder": "."}},
    ],
    ids=str,
)
def test_every_search_finds_the_same(searchers, how):
    files, kept = (answers(searcher, **{"k": 8, **how}) for searcher in searchers)
    assert kept[0] == files[0] and len(files[0]) >= 1
    np.testing.assert_allclose(kept[1], files[1], atol=2e-3)


def test_results_are_narrowed_to_a_field(searchers, both, capsys):
    for searcher in searchers:
        found, _ = answers(searcher, k=100, filters={"licence": "MIT"})
        assert len(found) == COUNT // 2 - 1 and all(id % 2 for id in found)
        with pytest.raises(BadPrompt, match="use one of file"):
            answers(searcher, filters={"id == 1 or id": "1"})
        with pytest.raises(BadPrompt, match="number of pixels"):
            answers(searcher, filters={"width": "wide"})
        assert answers(searcher, k=100, filters={"file": "*6.png"})[0].count(6) == 1
        with pytest.raises(BadPrompt, match="excluded or filtered out"):
            answers(searcher, filters={"source": "a_so*"})  # here no character stands for any other
        with pytest.raises(BadPrompt, match="excluded or filtered out"):
            answers(searcher, filters={"licence": 'MIT" or id > 0 or licence == "'})


def test_the_command_line_narrows_too(both, capsys, monkeypatch):
    asked = ["search", str(both[0]), "--text", "thing 6", "--device", "cpu", "--k", "50"]
    assert ask([*asked, "--filter", "licence=MIT"]) == 0
    found = [int(line.split("\t")[2]) for line in capsys.readouterr().out.splitlines()]
    assert found and all(id % 2 for id in found)
    assert ask([*asked, "--filter", "MIT"]) == 1
    assert "FIELD=VALUE" in capsys.readouterr().err


def test_the_page_does_not_know_the_difference(searchers):
    pages = [
        Controller(searcher.index, partial(Searcher, searcher.index, searcher.encoder), "few") for searcher in searchers
    ]
    shown = [page.start(Settings("phs", 2)) for page in pages]
    one, other = ([(hit["id"], hit["name"], hit["url"]) for hit in each.results["hits"]] for each in shown)
    assert one == other and shown[0].pointer["suggestions"] == shown[1].pointer["suggestions"] != ()
    offers = [page.capabilities for page in pages]
    assert (
        replace(offers[0], follows_folder=False) == offers[1]
        and offers[1].has_head_cache
        and offers[1].has_text
        and offers[1].has_regions
    )
    for page, each in zip(pages, shown, strict=True):
        assert [hit["heat"] is not None for hit in page.heatmaps(each.session)["hits"]][:3] == [True] * 3
        assert page.explain(each.session, each.results["hits"][0]["id"])["lines"][-1].startswith(
            "Most similar in the selected heads"
        )
        assert len(page.views.map()["points"]) == COUNT - 1
        judged = page.refine(each.session, {"liked": [7], "disliked": [9]}, Settings("phs", 2))
        assert "with your feedback" in judged.results["note"]


def test_a_restart_loses_nothing(tmp_path):
    """milvus-lite serves a file to one process at a time: one builds and ends, the next ones ask."""
    pytest.importorskip("milvus_lite")
    pictures, out = draw(tmp_path / "pictures", 6), tmp_path / "kept"

    def run(*words):
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-500:]
        return done.stdout

    run("index_build", "build", str(pictures), "--out", str(out), "--store", f"milvus:{tmp_path / 'photos.db'}")
    asked = ["foir", "search", str(out), str(pictures / "03.png"), "--box", "20,10,80,70", "--k", "6"]
    first = run(*asked)
    assert len(first.splitlines()) == 6 and run(*asked) == first


def test_building_again_takes_the_old_ones_place(tmp_path, capsys):
    pytest.importorskip("milvus_lite")
    from foir.index.milvus_client import connect

    pictures = draw(tmp_path / "pictures", 4)
    asked = ["build", str(pictures), "--out", str(tmp_path / "kept"), "--encoder", "toy", "--store"]
    store = f"milvus:{tmp_path / 'photos.db'}"
    assert main([*asked, store]) == 0
    first = json.loads((tmp_path / "kept" / "manifest.json").read_text())["store"]
    before = open_index(tmp_path / "kept")
    (pictures / "00.png").unlink()
    assert main([*asked, store]) == 0
    second = json.loads((tmp_path / "kept" / "manifest.json").read_text())["store"]
    client = connect(parse_store(store))
    names = {name for each in (first, second) for name in (each["collection"], each["regions"])}
    assert set(client.list_collections()) == names and len(names) == 4
    assert len(open_index(tmp_path / "kept")) == 3 and len(before) == 4
    assert before.get(0).file == "00.png"  # who has the old one open goes on with it
    assert main(["verify", str(tmp_path / "kept")]) == 0
    assert main(["gc", str(tmp_path / "kept")]) == 0
    assert set(client.list_collections()) == {second["collection"], second["regions"]}
    assert len(open_index(tmp_path / "kept")) == 3
    with pytest.raises((BadIndex, Unavailable)):
        before.get(0)
    capsys.readouterr()
    assert main(["update", str(tmp_path / "kept")]) == 1
    assert "not in files" in capsys.readouterr().err
    for name in (second["regions"], second["collection"]):
        client.drop_collection(name)
        with pytest.raises(BadIndex, match=f"{name} .*build the index again"):
            open_index(tmp_path / "kept")


def test_gc_drops_no_collection_that_only_the_folder_names(tmp_path):
    """What a manifest says was left behind may be anybody's live collection; only this machine's record counts."""
    pytest.importorskip("milvus_lite")
    from foir.index.manifest import manifest_digest
    from foir.index.milvus_client import connect

    pictures = draw(tmp_path / "pictures", 4)
    store = f"milvus:{tmp_path / 'photos.db'}"
    build(Plan(pictures, tmp_path / "mine", "toy", device="cpu", store=store))
    build(Plan(pictures, tmp_path / "theirs", "toy", device="cpu"))
    path = tmp_path / "theirs" / "manifest.json"
    live = json.loads((tmp_path / "mine" / "manifest.json").read_text())["store"]
    manifest = json.loads(path.read_text()) | {"retired": [live]}
    path.write_text(json.dumps(manifest | {"digest": manifest_digest(manifest)}))
    assert main(["gc", str(tmp_path / "theirs")]) == 0
    assert set(connect(parse_store(store)).list_collections()) == {live["collection"], live["regions"]}
    assert len(open_index(tmp_path / "mine")) == 4


@pytest.mark.parametrize("store", ["photos.db", "milvus:", "redis:x"])
def test_what_is_no_store_is_refused(tmp_path, store, capsys):
    pictures = draw(tmp_path / "pictures", 2)
    assert main(["build", str(pictures), "--out", str(tmp_path / "i"), "--encoder", "toy", "--store", store]) == 1
    assert "is no store" in capsys.readouterr().err


def test_without_its_client_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    from foir.index import milvus_client

    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(Unavailable, match=r"requirements-scale\.txt"):
        milvus_client.connect("another.db")


def test_a_sending_that_was_killed_leaves_the_old_index_and_is_dropped_later(tmp_path, monkeypatch):
    pytest.importorskip("milvus_lite")
    from foir.index.milvus_client import connect
    from index_build import milvus_store

    pictures = draw(tmp_path / "pictures", 4)
    plan = Plan(pictures, tmp_path / "kept", "toy", device="cpu", store=f"milvus:{tmp_path / 'photos.db'}")
    build(plan)
    client = connect(parse_store(str(plan.store)))
    old = set(client.list_collections())
    (pictures / "00.png").unlink()

    def killed(*given):
        raise KeyboardInterrupt

    for step, sent in (("_manifest", 2), ("_region_rows", 2)):  # when everything was sent, or the images were
        with monkeypatch.context() as patch:
            patch.setattr(milvus_store, step, killed)
            with pytest.raises(KeyboardInterrupt):
                build(plan)
        assert len(set(client.list_collections()) - old) <= sent and len(open_index(tmp_path / "kept")) == 4
    build(plan)
    assert len(client.list_collections()) == 4 and old < set(client.list_collections())  # until gc
    assert len(open_index(tmp_path / "kept")) == 3


def test_some_pictures_are_spread_over_all(both):
    index = open_index(both[1])
    ids = [item.id for item in index.sample(6)]
    assert ids[0] <= 2 and ids[-1] >= COUNT - 3 and max(b - a for a, b in zip(ids, ids[1:], strict=False)) <= 14
    assert len(index.sample(1)) == 1


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"prompt": None, "text": "thing 6"},
        {"prompt": Prompt(points=((40, 50),), boxes=((90, 20, 140, 80),))},  # two things
        {"context": 0.0},
        {"mode": "query-db"},
        {"filters": {"licence": "MIT"}},
        {"exclude": [3, 4, 8]},
        {"feedback": Feedback(liked=[7, 9], disliked=[11])},
        {"text": "thing 6", "negative_text": "thing 7", "text_weight": 0.3},
    ],
    ids=str,
)
def test_regions_are_the_same(searchers, how):
    files, kept = (search(searcher, k=8, **how) for searcher in searchers)
    assert [item.id for item in kept.items] == [item.id for item in files.items] and len(files.items) == 8
    np.testing.assert_allclose(kept.scores, files.scores, atol=1e-3)
    assert files.regions and [[region.box for region in hit] for hit in kept.regions] == [
        [region.box for region in hit] for hit in files.regions
    ]


def test_of_a_large_index_only_a_part_is_ranked_by_the_standard_of_its_background(both, searchers, monkeypatch):
    """Candidates are near the whole image or near a thing, pass the filter, and have all their regions."""
    index, whole = searchers[1].index, searchers[0].index
    thing = whole.regions.of_row(whole.row(20))[0][:2].astype(np.float32)
    few = index.candidates({"image": [index.vectors("image", [3])[0]]}, 4, things=[thing], ids=[30])
    ids = [item.id for item in few.items()]
    assert {3, 20, 30} <= set(ids) and ids == sorted(ids) and len(ids) <= 9
    for row, id in enumerate(ids):
        for ours, theirs in zip(few.regions.of_row(row), whole.regions.of_row(whole.row(id)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    narrow = index.candidates({}, 4, things=[thing], filters={"licence": "MIT"})
    assert len(narrow) == 4 and all(item.licence == "MIT" for item in narrow.items())
    best = np.array([(whole.regions.of_row(row)[0].astype(np.float32) @ thing.T).max() for row in range(len(whole))])
    best[whole.excluded_mask({"licence": "MIT"})] = -1
    assert {item.id for item in narrow.items()} == {whole.item(row).id for row in np.argsort(-best)[:4].tolist()}
    assert index.candidates({}, 4).regions is None and len(index.candidates({}, 4, things=[])) == 0
    monkeypatch.setattr("foir.search.searcher.NEIGHBOURS", 6)
    files, kept = (answers(searcher, k=3) for searcher in searchers)
    assert kept[0] == files[0]
    np.testing.assert_allclose(kept[1], files[1], atol=1e-3)


def test_a_background_is_a_sample(tmp_path, monkeypatch):
    pytest.importorskip("milvus_lite")
    monkeypatch.setattr("foir.index.records.BACKGROUND", 3)
    pictures, store = draw(tmp_path / "pictures", 9), f"milvus:{tmp_path / 'photos.db'}"
    build(Plan(pictures, tmp_path / "files", "toy-words", device="cpu"))
    build(Plan(pictures, tmp_path / "kept", "toy-words", device="cpu", store=store))
    files, kept = (Searcher.load(tmp_path / name, device="cpu") for name in ("files", "kept"))
    background, whole = kept.index.background, files.index
    assert background is not None and isinstance(whole, Index) and whole.regions is not None
    for name, space in background.spaces.items():
        np.testing.assert_array_equal(space.shards[0], np.concatenate(whole.space(name).shards)[[0, 4, 8]])
    np.testing.assert_array_equal(background.regions.vectors[0], whole.regions.subset([0, 4, 8]).vectors[0])
    hits = [search(each, k=9) for each in (files, kept)]
    boxes = [{item.id: hit for item, hit in zip(each.items, each.regions, strict=True)} for each in hits]
    assert boxes[0] == boxes[1] and np.abs(hits[0].scores - hits[1].scores).max() > 0.01
    part = next(path for path in (tmp_path / "kept").glob("*-regions.safetensors"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert main(["verify", str(tmp_path / "kept")]) == 1
    with pytest.raises(BadIndex, match="damaged"):
        open_index(tmp_path / "kept")


def test_an_index_without_regions_is_as_before(tmp_path):
    pytest.importorskip("milvus_lite")
    pictures, store = draw(tmp_path / "pictures", 5), f"milvus:{tmp_path / 'photos.db'}"
    build(Plan(pictures, tmp_path / "kept", "toy", device="cpu", regions=None, store=store))
    build(Plan(pictures, tmp_path / "files", "toy", device="cpu", regions=None))
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert manifest["store"].keys() == {"uri", "collection"} and not manifest.keys() & {"regions", "region_count"}
    assert "shards" not in manifest["spaces"]["image"] and len(manifest["files"]) == 1
    kept, files = (Searcher.load(tmp_path / name, device="cpu") for name in ("kept", "files"))
    assert kept.index.regions is None and kept.index.background is None
    assert answers(kept, k=5)[0] == answers(files, k=5)[0]
    assert main(["gc", str(tmp_path / "kept")]) == 0 and len(open_index(tmp_path / "kept")) == 5
