"""Search by regions: what it adds up to, what it leaves as it was, and what its hits carry."""

import shutil
from typing import Any

import numpy as np
import pytest
import torch

from foir import BadIndex, Index, Prompt, Searcher, methods
from foir.patches import rasterise
from foir.ranking import exact
from foir.ranking.feedback import Judgements, move, relevance
from foir.regions.close_ups import take_close_ups
from foir.regions.recipe import RegionRecipe
from foir.regions.ways import find_way
from foir.search.query import TEXT_CONTEXT, Feedback, Query
from index_build.pipeline import Plan, build
from tests.conftest import scene
from tests.index_build.conftest import rewrite

BOX, OTHER = (20.0, 15.0, 80.0, 75.0), (90.0, 40.0, 150.0, 110.0)
COUNT = 14


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Pictures of two sizes; "index" with regions and "plain" without."""
    root = tmp_path_factory.mktemp("regions")
    (root / "pictures").mkdir()
    for number in range(COUNT):
        scene(number, (160, 120) if number % 3 else (120, 160)).save(root / "pictures" / f"{number:02}.png")
    build(Plan(root / "pictures", root / "index", "toy-words", heads=True, device="cpu"))
    build(Plan(root / "pictures", root / "plain", "toy-words", heads=True, device="cpu", regions=None))
    return root


@pytest.fixture(scope="module")
def searcher(base):
    return Searcher.load(base / "index", device="cpu")


@pytest.fixture(scope="module")
def plain(base):
    return Searcher.load(base / "plain", device="cpu")


@pytest.fixture(scope="module")
def picture(searcher):
    return searcher.open(searcher.index.picture(searcher.index.item(1)))


def thing(searcher, picture, *prompts, window=3):
    """Region vectors of masks, float64 [n, dim]: the mean of the picture and of close-ups."""
    encoder, found = searcher.encoder, []
    mean = torch.tensor(RegionRecipe.from_json(searcher.index.regions.recipe).mean)
    for prompt in prompts:
        image = picture.photo.image
        mask = rasterise(prompt, picture.photo.size, encoder.grid, window=window)
        views = [
            find_way("blended").vectors(
                encoder, encoder.prefix(encoder.pixels([view])), torch.from_numpy(part.patches.reshape(1, -1)), mean
            )[0, 0]
            for view, part in [(image, mask), *take_close_ups(image, mask)]
        ]
        found.append(torch.stack(views).double().mean(0).numpy())
    return np.stack(found) / np.linalg.norm(found, axis=1, keepdims=True)


def best(searcher, vectors):
    """The exact score of each picture's best region, float64, and its place."""
    regions = searcher.index.regions
    rows = [regions.of_row(row)[0].astype(float) @ vectors.T for row in range(len(searcher.index))]
    return np.array([row.max() for row in rows]), [int(row.max(1).argmax()) for row in rows]


def standard(scores):
    return (scores - scores.mean()) / scores.std()


def whole(searcher, vector):
    return np.concatenate(searcher.space.shards).astype(float) @ vector.astype(float)


def ids(hits):
    return [item.id for item in hits.items]


def agrees(hits, expected, *, atol=5e-3):
    """The hits are those of the expected scores by id: best first, each with its score."""
    np.testing.assert_allclose(hits.scores, expected[ids(hits)], atol=atol)
    assert (np.diff(hits.scores) <= 0).all()
    np.testing.assert_allclose(
        expected[ids(hits)], np.sort(expected[expected > -np.inf])[::-1][: len(hits.items)], atol=atol
    )


@pytest.mark.parametrize("method", [*methods.methods(), "attention_mask|phs"])
def test_with_the_scene_alone_every_method_answers_bit_for_bit_as_without_regions(searcher, plain, picture, method):
    for mode in ("query", "query-db"):
        with_regions = searcher.search(Query(picture, Prompt.box(*BOX), method=method, mode=mode, k=COUNT, context=1))
        without = plain.search(Query(picture, Prompt.box(*BOX), method=method, mode=mode, k=COUNT))
        assert with_regions.items == without.items and with_regions.regions == without.regions == ()
        assert with_regions.scores.tobytes() == without.scores.tobytes()


@pytest.mark.parametrize(
    "more",
    [
        {"text": "thing 3", "negative_text": "thing 5"},
        {"feedback": Feedback([2], [4])},
        {"exclude": (1, 2), "filters": {"width": 160}},
        {"prompt": None},
        {"prompt": None, "image": None, "text": "thing 3"},
    ],
    ids=lambda more: " ".join(more),
)
def test_with_the_scene_alone_all_else_answers_bit_for_bit_as_without_regions(searcher, plain, picture, more):
    asked: dict[str, Any] = {"image": picture, "prompt": Prompt.box(*BOX), "k": COUNT} | more
    with_regions, without = searcher.search(Query(**asked, context=1)), plain.search(Query(**asked))
    assert with_regions.items == without.items and with_regions.notes == without.notes
    assert with_regions.scores.tobytes() == without.scores.tobytes()


def test_without_the_scene_the_best_region_ranks(searcher, picture):
    hits = searcher.search(Query(picture, Prompt.box(*BOX), k=COUNT, context=0))
    scores, _ = best(searcher, thing(searcher, picture, Prompt.box(*BOX)))
    np.testing.assert_array_equal(ids(hits), np.argsort(-scores, kind="stable"))
    agrees(hits, standard(scores))


@pytest.mark.parametrize("mode", ["query", "query-db"])
def test_the_sum_is_that_of_the_best_region_and_the_scene_over_all_pictures_before_filters(searcher, picture, mode):
    asked: dict[str, Any] = {"method": "phs", "options": {"h_on": 3}, "k": COUNT}
    hits = searcher.search(
        Query(picture, Prompt.box(*BOX), mode=mode, context=0.3, filters={"width": 160}, exclude=[1], **asked)
    )
    scores, _ = best(searcher, thing(searcher, picture, Prompt.box(*BOX)))
    scene_hits = searcher.search(Query(picture, Prompt.box(*BOX), mode=mode, context=1, **asked))
    scenes = np.zeros(COUNT)
    scenes[ids(scene_hits)] = scene_hits.scores
    expected = 0.7 * standard(scores) + 0.3 * standard(scenes)
    left = [item.id for item in searcher.index.items() if item.width == 160 and item.id != 1]
    assert sorted(ids(hits)) == left
    expected[[id for id in range(COUNT) if id not in left]] = -np.inf
    agrees(hits, expected)
    if mode == "query":
        np.testing.assert_allclose(scenes, whole(searcher, hits.features.vectors[0].numpy()), atol=1e-4)


def test_only_the_scene_changes_where_the_collection_is_searched_by_the_same_heads(searcher, picture):
    prompt = Prompt.box(*BOX)
    one, other = (
        searcher.search(Query(picture, prompt, mode=mode, k=COUNT, context=0)) for mode in ("query", "query-db")
    )
    assert ids(one) == ids(other) and one.regions == other.regions
    np.testing.assert_array_equal(one.scores, other.scores)


def test_two_boxes_are_two_things_whose_standard_scores_are_averaged(searcher, picture):
    prompt = Prompt(boxes=(BOX, OTHER))
    hits = searcher.search(Query(picture, prompt, k=COUNT, context=0))
    both = [best(searcher, thing(searcher, picture, Prompt.box(*box)))[0] for box in (BOX, OTHER)]
    agrees(hits, (standard(both[0]) + standard(both[1])) / 2)
    assert all(len(regions) == 2 for regions in hits.regions)
    np.testing.assert_allclose(hits.similarities, np.minimum(*both)[ids(hits)], atol=1e-6)


@pytest.mark.parametrize("window", [3, 5])
def test_a_point_means_its_window(searcher, picture, window):
    point = Prompt.point(70, 60)
    hits = searcher.search(Query(picture, point, window=window, k=COUNT, context=0))
    agrees(hits, standard(best(searcher, thing(searcher, picture, point, window=window))[0]))


def test_a_hit_carries_the_box_of_its_region_in_pixels_and_its_exact_cosine(searcher, picture):
    hits = searcher.search(Query(picture, Prompt.box(*BOX), k=COUNT))
    scores, places = best(searcher, thing(searcher, picture, Prompt.box(*BOX)))
    for item, (region,) in zip(hits.items, hits.regions, strict=True):
        sides = np.array([item.width, item.height, item.width, item.height])
        box = searcher.index.regions.of_row(item.id)[1][places[item.id]] * sides / 65_535
        assert region.box == pytest.approx(tuple(box))
        assert region.score == pytest.approx(scores[item.id], abs=1e-6)
    np.testing.assert_allclose(hits.similarities, scores[ids(hits)], atol=1e-6)
    assert not hits.is_fused
    some = hits.above(float(np.median(hits.similarities)))
    assert len(some.regions) == len(some.items) == len(some.scores) == COUNT // 2
    assert hits.excluding(hits.items[0].id, 3).regions == hits.regions[1:4]


def test_the_words_meet_regions_and_are_averaged_with_the_thing(searcher, picture):
    said = searcher.image_text.encode_texts(["thing 3"]).vectors[0]
    words = TEXT_CONTEXT * standard(whole(searcher, said))
    words += (1 - TEXT_CONTEXT) * standard(best(searcher, said[None].astype(float))[0])
    alone = searcher.search(Query(text="thing 3", k=COUNT))
    agrees(alone, words)
    assert all(len(regions) == 1 for regions in alone.regions)
    hits = searcher.search(Query(picture, Prompt.box(*BOX), text="thing 3", text_weight=0.4, context=0, k=COUNT))
    pointed = standard(best(searcher, thing(searcher, picture, Prompt.box(*BOX)))[0])
    agrees(hits, 0.6 * pointed + 0.4 * words)
    assert all(len(regions) == 2 for regions in hits.regions) and hits.is_fused and hits.similarities is None


def test_words_that_share_no_space_with_the_regions_are_compared_with_whole_pictures_and_it_is_said(base, tmp_path):
    recipe = RegionRecipe(way="pooled")
    build(Plan(base / "pictures", tmp_path / "index", "toy-words", device="cpu", regions=recipe))
    searcher = Searcher.load(tmp_path / "index", device="cpu")
    hits = searcher.search(Query(text="thing 3", k=5))
    assert hits.regions == () and "not with regions." in " ".join(hits.notes)
    assert hits.scores.max() < 1.01


def test_judgements_of_whole_images_weigh_at_least_as_much_as_regions(searcher, picture):
    judged = Feedback(liked=[9], disliked=[5], rule="nn_ratio")
    hits = searcher.search(Query(picture, Prompt.box(*BOX), context=0, feedback=judged, k=COUNT))
    rows = np.concatenate(searcher.space.shards).astype(np.float32)
    scenes = relevance([rows], Judgements(rows[[9]], rows[[5]], hits.features.vectors[0].numpy()), "nn_ratio")
    pointed = standard(best(searcher, thing(searcher, picture, Prompt.box(*BOX)))[0])
    expected = 0.5 * pointed + 0.5 * standard(scenes)
    expected[5] = expected.min() - 1
    agrees(hits, expected)
    assert hits.is_fused and all(len(regions) == 1 for regions in hits.regions)


@pytest.mark.parametrize("boxes", [{}, {9: (0.0, 0.0, 60.0, 50.0)}])
def test_judged_regions_move_what_is_searched_for(searcher, picture, boxes):
    """The region of a judged image is the most similar one, or the one with the largest overlap with a box."""
    vector = thing(searcher, picture, Prompt.box(*BOX))
    regions, (_, places) = searcher.index.regions, best(searcher, vector)
    own, corners = regions.of_row(9)
    size = np.array([searcher.index.item(9).width, searcher.index.item(9).height] * 2)
    if boxes:
        overlaps = [overlap(np.array(corner) / 65_535 * size, boxes[9]) for corner in corners.astype(float)]
        places[9] = int(np.argmax(overlaps))
    moved = move(vector.astype(np.float32), own[[places[9]]].astype(np.float32), regions.of_row(5)[0][[places[5]]])
    hits = searcher.search(
        Query(picture, Prompt.box(*BOX), context=0, feedback=Feedback([9], [5], boxes=boxes), k=COUNT)
    )
    expected = standard(best(searcher, moved)[0])
    expected[5] = expected.min() - 1
    agrees(hits, expected)
    assert ids(hits)[-1] == 5 and hits.is_fused
    np.testing.assert_allclose(
        [region[0].score for region in hits.regions], best(searcher, moved)[0][ids(hits)], atol=1e-5
    )


def overlap(one, other):
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared)


def test_words_learn_from_regions_too(searcher):
    plain = searcher.search(Query(text="thing 3", k=COUNT))
    learnt = searcher.search(Query(text="thing 3", k=COUNT, feedback=Feedback(liked=[ids(plain)[4]])))
    assert ids(learnt).index(ids(plain)[4]) < 4
    assert [regions[0].score for regions in learnt.regions] != [regions[0].score for regions in plain.regions]


def test_few_results_are_the_first_of_many(searcher, picture):
    many = searcher.search(Query(picture, Prompt.box(*BOX), k=COUNT))
    few = searcher.search(Query(picture, Prompt.box(*BOX), k=3))
    assert few.items == many.items[:3] and few.regions == many.regions[:3]


def test_an_index_without_regions_is_searched_as_before(plain, picture):
    hits = plain.search(Query(picture, Prompt.box(*BOX), k=COUNT))
    expected = whole(plain, hits.features.vectors[0].numpy())
    agrees(hits, expected, atol=1e-5)
    assert plain.index.regions is None and hits.regions == () and not hits.is_fused
    np.testing.assert_array_equal(hits.similarities, hits.scores)


def test_a_subset_of_an_index_has_its_regions(searcher):
    some = searcher.index.subset([5, 2])
    for place, row in enumerate((5, 2)):
        np.testing.assert_array_equal(some.regions.of_row(place)[0], searcher.index.regions.of_row(row)[0])


@pytest.mark.parametrize("recipe", ["magic", '{"way": "magic"}', '{"way": "blended", "more": 1}'])
def test_regions_of_an_unknown_recipe_are_one_sentence(base, tmp_path, recipe):
    shutil.copytree(base / "index", tmp_path / "index")
    rewrite(tmp_path / "index", lambda manifest: manifest["regions"].update(recipe=recipe))
    Index.open(tmp_path / "index")
    with pytest.raises(BadIndex, match="this foir does not know") as caught:
        Searcher.load(tmp_path / "index", device="cpu")
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_what_leads_is_ranked_by_exact_scores_however_rough_the_scan(searcher, picture, monkeypatch):
    """Noise of twice what a scan may be off by: without exact scores it would order the first results."""
    near: dict[str, Any] = {"prompt": Prompt.box(*BOX), "text": "thing 2", "context": 0.5, "k": 5}
    queries = [Query(picture, **(near | how)) for how in ({}, {"text": None}, {"context": 0.0, "text": None})]
    expected = [searcher.search(query) for query in queries]
    real, random = exact.scan, np.random.default_rng(0)

    def noisy(shards, query):
        scores = real(shards, query)
        return scores + random.uniform(-0.002, 0.002, len(scores)).astype(np.float32)

    monkeypatch.setattr(exact, "scan", noisy)
    for query, wanted in zip(queries, expected, strict=True):
        found = searcher.search(query)
        assert ids(found) == ids(wanted)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=0.05)


def test_other_settings_of_a_search_do_not_encode_the_marked_thing_again(searcher, monkeypatch):
    picture, encoded = searcher.open(searcher.index.picture(searcher.index.item(1))), []
    real = searcher.regions.encode_query

    def encode_query(*given):
        encoded.append(given)
        return real(*given)

    monkeypatch.setattr(searcher.regions, "encode_query", encode_query)
    first = searcher.search(Query(picture, Prompt.box(*BOX), k=COUNT))
    searcher.search(Query(picture, Prompt.box(*BOX), method="foveal", context=0.5))
    again = searcher.search(Query(picture, Prompt.box(*BOX), k=COUNT))
    assert len(encoded) == 1 and ids(again) == ids(first) and np.array_equal(again.scores, first.scores)
    searcher.search(Query(picture, Prompt.box(*OTHER)))
    assert len(encoded) == 2
