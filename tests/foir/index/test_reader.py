"""The index on disk and in memory: what goes in comes out, and both searches equal brute force."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foir import Index, Prompt, Searcher, methods
from foir.encoders.base import Encoder
from foir.encoders.intervention import HeadGate, Intervention
from foir.errors import BadIndex, BadPrompt
from foir.index import Item, Space, local_record, mmap, writer
from foir.index.manifest import SpaceFacts
from foir.index.tensors import map_tensors
from foir.patches import rasterise
from foir.ranking import exact, head_cache
from foir.ranking.topk import merge_top_k
from foir.search.query import Query
from index_build import pipeline
from index_build.pipeline import Plan, build
from tests.conftest import scene

BOXES = [(10, 10, 60, 50), (90, 60, 150, 110), (0, 0, 40, 110), (60, 20, 100, 60)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "pictures"
    folder.mkdir()
    for i in range(11):
        scene(i, (140 + 10 * i, 120 + 4 * i)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def index(pictures):
    """Eleven pictures of eleven sizes, with a head cache, in three shards."""
    out = pictures.parent / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SHARD_SIZE", 4)
        build(Plan(pictures, out, "toy", heads=True, device="cpu"))
    return Index.open(out)


@pytest.fixture(scope="module")
def plain(pictures, toy):
    """Features of the pictures one by one, without an index between."""
    images = [Image.open(path).convert("RGB") for path in sorted(pictures.iterdir())]
    return [toy.finish(toy.prefix(toy.pixels([image]))) for image in images]


@pytest.fixture(scope="module")
def space32(plain, toy):
    """The same pictures as a space in float32 that never saw a disk, in two shards."""

    def halves(name):
        rows = torch.cat([getattr(features, name) for features in plain]).numpy()
        return rows[:7], rows[7:]

    return Space("toy", toy.revision, toy.reference_feature(), halves("vectors"), halves("z"), halves("residual"))


def pointed(toy, photo, box, **options):
    """Vector and gate of a query that points at a box."""
    prompt = Prompt.box(*box)
    step = methods.intervene("phs", prompt, rasterise(prompt, photo.size, toy.grid), options)
    features = toy.features(photo, [step])
    return features.vectors.numpy(), features.gates[0]


def shown_through(toy, pictures, gate):
    """Every picture encoded anew and finished under a gate, the long way round."""
    images = [Image.open(path).convert("RGB") for path in sorted(pictures.iterdir())]
    step = Intervention(heads=lambda block, attention: gate)
    return np.concatenate([toy.finish(toy.prefix(toy.pixels([image])), [step]).vectors.numpy() for image in images])


def unit(rows, dim, seed=0):
    values = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def brute_force(shards, queries, k):
    scores = queries @ np.concatenate(shards).astype(np.float32).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, 1), rows


def test_round_trip_keeps_items_sizes_and_ids(folder, toy):
    built = build(Plan(folder, folder.parent / "index", "toy", device="cpu"))
    index = Index.open(folder.parent / "index")
    names = [f"a/{i:02}.png" for i in (1, 3, 5, 7, 9)] + [f"b/{i:02}.png" for i in (0, 2, 4, 6, 8)]
    items = [index.item(row) for row in range(len(index))]
    assert (built.image_count, built.rejected, built.resumed, len(index)) == (10, (), 0, 10)
    assert [item.file for item in items] == names
    assert [item.id for item in items] == list(range(10))
    assert {(item.width, item.height) for item in items} == {(160, 120)}
    assert [(item.caption, item.source, item.licence) for item in items] == [(None, None, None)] * 10
    assert [index.row(item.id) for item in items] == list(range(10))
    assert index.picture(items[3]).samefile(folder / names[3])


def test_round_trip_keeps_each_picture_its_own_size(index):
    sizes = [(index.item(row).width, index.item(row).height) for row in range(len(index))]
    assert sizes == [(140 + 10 * i, 120 + 4 * i) for i in range(11)]


def test_round_trip_keeps_vectors_and_head_cache_to_half_precision(index, plain, toy):
    space = index.space()
    assert [len(shard) for shard in space.shards] == [len(z) for z in space.z] == [4, 4, 3]
    assert {array.dtype for array in (*space.shards, *space.z, *space.residual)} == {np.dtype(np.float16)}
    assert (space.encoder, space.revision) == ("toy", "seed-7")
    assert np.array_equal(space.reference_feature, toy.reference_feature())
    for name, stored in (("vectors", space.shards), ("z", space.z), ("residual", space.residual)):
        fresh = torch.cat([getattr(features, name) for features in plain]).numpy()
        assert np.concatenate(stored).shape == fresh.shape
        assert np.allclose(np.concatenate(stored).astype(np.float32), fresh, rtol=1e-3, atol=1e-3), name


def test_thumbnails_are_small_jpegs_named_by_their_content(index):
    for row in range(len(index)):
        item = index.item(row)
        path = index.thumb(item)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == item.thumb
        with Image.open(path) as thumb:
            assert thumb.format == "JPEG" and max(thumb.size) <= 320
            assert thumb.width / thumb.height == pytest.approx(item.width / item.height, rel=0.02)


def test_picture_falls_back_to_the_thumbnail_when_the_folder_is_gone(index, tmp_path):
    shutil.copytree(index.folder, tmp_path / "moved" / "index")
    moved = Index.open(tmp_path / "moved" / "index")
    assert moved.picture(moved.item(2)) == moved.thumb(moved.item(2))


def test_an_id_or_space_that_is_not_there_is_a_bad_index(index):
    with pytest.raises(BadIndex, match="99"):
        index.row(99)
    with pytest.raises(BadIndex, match="text"):
        index.space("text")


@pytest.mark.parametrize("count", [1, 5], ids=["one query", "many queries"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("cuts", [[], [1, 40, 900]], ids=["one shard", "four shards"])
def test_exact_search_equals_brute_force(count, dtype, cuts):
    shards = np.split(unit(1000, 48).astype(dtype), cuts)
    queries = unit(count, 48, seed=1)
    scores, rows = brute_force(shards, queries, 20)
    found = exact.search(shards, queries, 20)
    assert np.array_equal(found.rows, rows)
    assert np.allclose(found.scores, scores, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_exact_search_for_more_than_there_is_gives_every_row_once(count):
    shards = np.split(unit(30, 16), [7, 7, 29])
    queries = unit(count, 16, seed=1)
    scores, rows = brute_force(shards, queries, 30)
    found = exact.search(shards, queries, 500)
    assert np.array_equal(found.rows, rows)
    assert np.allclose(found.scores, scores, atol=1e-6)


@pytest.mark.parametrize("count", [1, 4])
def test_exact_search_equals_brute_force_where_a_shard_is_larger_than_a_block(count):
    shards = np.split(unit(2 * exact.BLOCK + 5, 8).astype(np.float16), [exact.BLOCK + 3])
    queries = unit(count, 8, seed=1)
    scores, rows = brute_force(shards, queries, 10)
    found = exact.search(shards, queries, 10)
    assert np.array_equal(found.rows, rows)
    assert np.allclose(found.scores, scores, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exact_search_gives_equal_scores_in_row_order(count, dtype):
    rows = np.eye(300, 8, dtype=dtype)  # all else scores 0
    rows[100:260] = np.eye(8, dtype=dtype)[5]
    found = exact.search(np.split(rows, [120]), np.eye(8, dtype=np.float32)[[5] * count], 7)
    assert found.rows.tolist() == [[5, 100, 101, 102, 103, 104, 105]] * count
    assert found.scores.tolist() == [[1.0] * 7] * count


def test_merge_equals_a_full_sort():
    random = np.random.default_rng(3)
    parts = [random.normal(size=(n, 6)).astype(np.float32) for n in (5, 0, 300, 1, 64, 10)]
    whole = np.concatenate(parts).T
    for k in (1, 4, 37, 380, 1000):
        found = merge_top_k(iter(parts), 6, k)
        rows = np.argsort(-whole, axis=1, kind="stable")[:, :k]
        assert np.array_equal(found.rows, rows), k
        assert np.array_equal(found.scores, np.take_along_axis(whole, rows, 1)), k


def test_merge_equals_a_full_sort_where_many_scores_are_equal():
    random = np.random.default_rng(3)
    parts = [random.integers(0, 4, (n, 6)).astype(np.float32) for n in (5, 300, 1, 64, 10)]
    whole = np.concatenate(parts).T
    for k in (1, 4, 37, 380):
        rows = np.argsort(-whole, axis=1, kind="stable")[:, :k]
        assert np.array_equal(merge_top_k(iter(parts), 6, k).rows, rows), k


GATES = [
    {"h_on": 1},
    {"h_on": 3},
    {"h_on": 3, "variant": "before"},
    {"h_on": -1, "variant": "after"},
    {"h_on": 2, "variant": "after+scale"},
]


@pytest.mark.parametrize("options", GATES, ids=str)
def test_query_db_from_the_cache_on_disk_equals_encoding_every_picture_again(index, pictures, toy, photo, options):
    query, gate = pointed(toy, photo, BOXES[0], **options)
    again = shown_through(toy, pictures, gate)
    cached = np.concatenate(list(head_cache.features(toy, index.space(), gate)))
    assert ((cached * again).sum(1) > 1 - 1e-3).all()
    found = head_cache.search(toy, index.space(), [gate], query, 5)
    assert np.allclose(found.scores[0], np.sort(again @ query[0])[::-1][:5], atol=5e-3)


@pytest.mark.parametrize("options", GATES, ids=str)
def test_query_db_from_a_float32_cache_equals_encoding_every_picture_again(space32, pictures, toy, photo, options):
    query, gate = pointed(toy, photo, BOXES[0], **options)
    again = shown_through(toy, pictures, gate)
    cached = np.concatenate(list(head_cache.features(toy, space32, gate)))
    assert ((cached * again).sum(1) > 1 - 1e-5).all()
    assert np.abs(cached - again).max() < 1e-5
    found = head_cache.search(toy, space32, [gate], query, 5)
    scores, rows = brute_force([again], query, 5)
    assert np.array_equal(found.rows, rows)
    assert np.allclose(found.scores, scores, atol=1e-5)


def test_a_gate_changes_the_database_features(index, toy, photo):
    _, gate = pointed(toy, photo, BOXES[0], h_on=2)
    plain, gated = (np.concatenate(list(head_cache.features(toy, index.space(), g))) for g in (None, gate))
    assert ((plain * gated).sum(1) < 0.99).all()


@pytest.mark.parametrize("which", ["index", "space32"])
def test_queries_scored_together_equal_queries_scored_one_by_one(which, request, toy, photo):
    found = request.getfixturevalue(which)
    space = found.space() if isinstance(found, Index) else found
    asked = [pointed(toy, photo, box, h_on=n) for box, n in zip(BOXES, (2, 3, 4, 5), strict=True)]
    gates = [asked[0][1], asked[1][1], asked[0][1], None, asked[3][1], asked[1][1]]
    queries = np.concatenate([asked[i][0] for i in (0, 1, 2, 3, 3, 0)])
    together = head_cache.search(toy, space, gates, queries, 6)
    for i, gate in enumerate(gates):
        alone = head_cache.search(toy, space, [gate], queries[i : i + 1], 6)
        assert np.array_equal(together.rows[i], alone.rows[0]), i
        assert np.allclose(together.scores[i], alone.scores[0], atol=1e-6), i


def test_the_block_size_of_query_db_does_not_show(space32, toy, photo, monkeypatch):
    query, gate = pointed(toy, photo, BOXES[1], h_on=2)
    whole = head_cache.search(toy, space32, [gate], query, 11)
    monkeypatch.setattr(head_cache, "BLOCK", 2)
    pieces = head_cache.search(toy, space32, [gate], query, 11)
    assert np.array_equal(pieces.rows, whole.rows)
    assert np.allclose(pieces.scores, whole.scores, atol=1e-6)


def test_queries_with_equal_gates_share_the_work(space32, toy, photo, monkeypatch):
    finished: list[int] = []
    real = Encoder.tail

    def tail(self, z, *rest):
        finished.append(len(z))
        return real(self, z, *rest)

    monkeypatch.setattr(Encoder, "tail", tail)
    gates = [HeadGate((1.0, 0.0) * 3), HeadGate((0.0, 1.0) * 3), HeadGate((1.0, 0.0) * 3)]
    head_cache.search(toy, space32, gates, unit(3, 48), 4)
    assert sum(finished) == 2 * 11


def test_query_db_for_more_than_there_is_gives_every_row_once(index, toy, photo):
    query, gate = pointed(toy, photo, BOXES[0], h_on=3)
    found = head_cache.search(toy, index.space(), [gate, None], np.repeat(query, 2, 0), 500)
    assert found.rows.shape == found.scores.shape == (2, 11)
    assert all(sorted(rows) == list(range(11)) for rows in found.rows.tolist())


@pytest.mark.parametrize("gate", [None, HeadGate((1.0,) * 6), HeadGate((1.0,) * 6, after=(1.0,) * 6)])
def test_query_db_with_all_heads_on_equals_plain_search(index, toy, photo, gate):
    queries = toy.features(photo, [Intervention()]).vectors.numpy()
    plain = exact.search(index.space().shards, queries, 11)
    found = head_cache.search(toy, index.space(), [gate], queries, 11)
    by_row = dict(zip(plain.rows[0].tolist(), plain.scores[0].tolist(), strict=True))
    assert [by_row[row] for row in found.rows[0].tolist()] == pytest.approx(found.scores[0].tolist(), abs=1e-3)


def test_searcher_with_all_heads_on_finds_the_same_in_both_modes(index, toy, photo):
    searcher = Searcher(index, toy)
    picture = searcher.open(index.picture(index.item(4)))
    prompt = Prompt.box(10, 10, 90, 90)
    one, other = (
        searcher.search(Query(picture, prompt, options={"h_on": 6}, mode=m, k=5)) for m in ("query", "query-db")
    )
    assert one.items[0].file == "04.png"
    assert [item.id for item in one.items] == [item.id for item in other.items]
    assert np.allclose(one.scores, other.scores, atol=1e-3)


def test_query_db_refuses_the_identity_variant(index, toy, photo):
    query, gate = pointed(toy, photo, BOXES[0], h_on=3, variant="identity")
    with pytest.raises(BadPrompt, match="identity"):
        head_cache.search(toy, index.space(), [gate], query, 5)


def test_query_db_without_a_head_cache_is_a_bad_index(folder, toy, photo):
    out = folder.parent / "index"
    build(Plan(folder, out, "toy", device="cpu"))
    query, gate = pointed(toy, photo, BOXES[0], h_on=3)
    searcher = Searcher(Index.open(out), toy)
    with pytest.raises(BadIndex, match="--heads"):
        head_cache.search(toy, searcher.space, [gate], query, 5)
    with pytest.raises(BadIndex, match="--heads"):
        searcher.search(Query(searcher.open(folder / "a" / "01.png"), Prompt.point(20, 20), mode="query-db"))


def test_two_pictures_with_one_id_are_no_index(tmp_path):
    item = Item(7, "a.png", 4, 4, None, None, None, "0" * 64)
    vectors = writer.write_vectors(tmp_path, np.eye(3, 8, dtype=np.float32))
    space = SpaceFacts(encoder="toy", revision="seed-7", reference_feature=tuple(np.eye(8)[0]), shards=(vectors,))
    others = [replace(item, id=3), replace(item, id=5)]
    local_record.commit(tmp_path, writer.build_manifest(tmp_path, {"image": space}, [item, *others], []), None)
    assert len(Index.open(tmp_path)) == 3
    twins = [item, *others[:1], item]
    with pytest.raises(BadIndex, match="two images with one id"):
        writer.build_manifest(tmp_path, {"image": space}, twins, [])
    assert len(Index.open(tmp_path)) == 3


def resident(path):
    """Bytes of a mapped file that this process holds in memory."""
    held, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            ours = line.rstrip().endswith(str(path))
        elif ours and line.startswith("Rss:"):
            held += 1024 * int(line.split()[1])
    return held


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("large", [False, True])
def test_mapped_shards_equal_one_and_of_many_no_pages_stay(tmp_path, monkeypatch, count, large):
    rows, queries = unit(200_000, 64), unit(count, 64, seed=1)
    monkeypatch.setattr(mmap, "RESIDENT", 1 if large else 2**30)
    monkeypatch.setattr(mmap, "FREE_SHARE", 0)
    names = [writer.write_vectors(tmp_path, part) for part in np.split(rows, [30_000, 31_500, 190_000])]
    shards = [map_tensors(tmp_path / name)["vectors"] for name in names]
    found = exact.search(shards, queries, 25)
    one = exact.search([rows.astype(np.float16)], queries, 25)
    assert np.array_equal(found.rows, one.rows) and np.array_equal(found.scores, one.scores)
    held = [resident(tmp_path / name) for name in names]
    taken = sum(shard.nbytes for shard in shards)
    assert sum(held) < taken / 2 if large else sum(held) >= taken
    assert np.array_equal(np.concatenate(shards), rows.astype(np.float16))  # and they can be read again


def test_rows_that_a_scan_cannot_tell_apart_are_compared_by_the_product(monkeypatch):
    """Of too many rows that are nearly the same no scan in half precision can choose: the product decides."""
    monkeypatch.setattr(exact, "MAX_CANDIDATES", 60)
    rows = np.tile(unit(1, 32), (4000, 1)) + 1e-4 * np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    query = unit(1, 32)
    assert exact._candidates(np.split(rows, 8), query[0], 10) is None
    scores, best = brute_force(np.split(rows, 8), query, 10)
    assert np.array_equal(exact.search(np.split(rows, 8), query, 10).rows, best)
