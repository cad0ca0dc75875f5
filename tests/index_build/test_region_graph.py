"""The graph over the regions of a large index, which a small one gets here."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import usearch.index

from foir import BadIndex, Index, Prompt, Query, Searcher, Unavailable
from foir.index import graph
from foir.search import scoring
from index_build.maintenance import find_damage, gc
from index_build.pipeline import Plan, build
from index_build.update import remove, update
from tests.conftest import draw, scene


@pytest.fixture
def out(tmp_path, monkeypatch):
    """An index of 24 made pictures with a graph, whose search may use it."""
    monkeypatch.setattr(graph, "GRAPH_ROWS", 1)
    monkeypatch.setattr(scoring, "REFINED", 2)
    monkeypatch.setattr(scoring, "NEAR", 8)
    build(Plan(draw(tmp_path / "pictures", 24), tmp_path / "index", "toy", device="cpu"))
    return tmp_path / "index"


def graph_file(manifest):
    return manifest.regions.graph


def own_ids(index, k=1):
    """The images of the regions nearest to a region of each image, as the graph finds them."""
    return [index.regions.graph.near(index.regions.of_row(row)[0][:1], k) for row in range(len(index))]


def test_every_region_is_nearest_to_itself(out):
    index = Index.open(out)
    assert graph_file(index.manifest) in index.manifest.files
    assert own_ids(index) == [[item.id] for item in index.items()]


def test_a_search_through_the_graph_finds_what_a_scan_finds(out, tmp_path, monkeypatch):
    searcher = Searcher.load(out, device="cpu")
    asked, near_of = [], graph.RegionGraph.near

    def near_and_note(self, vectors, count):
        asked.append(near_of(self, vectors, count))
        return asked[-1]

    monkeypatch.setattr(graph.RegionGraph, "near", near_and_note)
    query = Query(searcher.open(tmp_path / "pictures" / "05.png"), Prompt.box(20, 20, 90, 80), k=3)
    near = searcher.search(query)
    assert len(asked) == 1 and near.items[0].id in asked[0]
    monkeypatch.setattr(scoring, "REFINED", 1000)  # too few images are near
    scanned = searcher.search(query)
    assert near.items == scanned.items
    np.testing.assert_allclose(near.scores, scanned.scores, atol=2e-3)
    assert [[region.box for region in hit] for hit in near.regions] == [
        [region.box for region in hit] for hit in scanned.regions
    ]


def test_with_a_filter_every_image_is_scanned(out, tmp_path, monkeypatch):
    monkeypatch.setattr(graph.RegionGraph, "near", None)
    searcher = Searcher.load(out, device="cpu")
    image = searcher.open(tmp_path / "pictures" / "05.png")
    query = Query(image, Prompt.box(20, 20, 90, 80), k=3, filters={"file": "07.png"})
    assert [item.file for item in searcher.search(query).items] == ["07.png"]


def test_update_and_remove_change_the_graph(out, tmp_path):
    old = graph_file(Index.open(out).manifest)
    scene(40).save(tmp_path / "pictures" / "new.png")
    scene(41).save(tmp_path / "pictures" / "03.png")
    (tmp_path / "pictures" / "08.png").unlink()
    update(out, device="cpu")
    remove(out, ["11.png"])
    index = Index.open(out)
    assert graph_file(index.manifest) != old
    assert own_ids(index) == [[item.id] for item in index.items()]
    assert {8, 11}.isdisjoint(id for ids in own_ids(index, 40) for id in ids)
    gc(out)
    assert not (out / old).exists()
    assert find_damage(out) == []


def test_a_damaged_graph_is_an_error_and_a_strangers_is_not_opened(out, tmp_path, monkeypatch):
    foreign = shutil.copytree(out, tmp_path / "foreign")
    name = graph_file(Index.open(out).manifest)
    monkeypatch.setattr(graph, "_restore", None)
    assert graph_file(Index.open(foreign)) is None
    data = bytearray((out / name).read_bytes())
    data[len(data) // 2] ^= 1
    (out / name).write_bytes(data)
    with pytest.raises(BadIndex, match="damaged"):
        Index.open(out)


def test_what_is_shared_has_no_graph(out):
    manifest = Index.open(out).manifest
    shared = manifest.without_graph()
    assert graph_file(shared) is None
    assert manifest.used_files - shared.used_files == {graph_file(manifest)} == manifest.files.keys() - shared.files
    assert shared.without_graph() is shared


def test_a_strangers_graph_is_not_opened_to_change_it_either(out, tmp_path, monkeypatch):
    foreign, pictures = shutil.copytree(out, tmp_path / "foreign"), tmp_path / "pictures"
    monkeypatch.setattr(graph, "RegionGraph", None)
    restored = graph._restore
    monkeypatch.setattr(graph, "_restore", None)
    remove(foreign, ["00.png"])
    again = shutil.copytree(out, tmp_path / "again")
    update(again, root=pictures, device="cpu")
    monkeypatch.undo()
    regions = Index.open(again).regions
    assert restored is graph._restore and regions is not None and regions.graph is None


def test_a_picture_that_is_encoded_to_the_same_vectors_stays_in_the_graph(out, tmp_path):
    alone = tmp_path / "pictures" / "zz.png"
    scene(50).save(alone)
    update(out, device="cpu")
    scene(50).save(alone, compress_level=1)
    update(out, device="cpu")
    index = Index.open(out)
    assert own_ids(index)[-1] == [index.items()[-1].id]


def test_a_full_disk_is_one_sentence_and_leaves_no_part(out, tmp_path, monkeypatch):
    def fail(self, path):
        Path(path).write_bytes(b"half")
        raise RuntimeError("Failed to serialize into stream")

    monkeypatch.setattr(usearch.index.Index, "save", fail)
    scene(51).save(tmp_path / "pictures" / "new.png")
    with pytest.raises(Unavailable, match="disk full"):
        update(out, device="cpu")
    assert not list(out.glob("*.part"))
    monkeypatch.undo()
    Index.open(out)
