"""Relevance feedback: the invariants of its specification."""

from typing import Any

import numpy as np
import pytest

from foir import BadIndex, BadPrompt, Prompt
from foir.index.mmap import gather
from foir.ranking.feedback import (
    FEW,
    REGIONS_DISLIKED,
    REGIONS_LIKED,
    Judgements,
    blend,
    feedback_rules,
    move,
    relevance,
)
from foir.search.query import Feedback, Query
from tests.conftest import speaking_searcher

NEAREST = ("nn_ratio", "sign_margin", "hard_1nn")


@pytest.fixture
def shards():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows[:200], rows[200:201], rows[201:])


def judged(shards, liked=(), disliked=(), query=0):
    rows = np.concatenate(shards)
    return Judgements(rows[list(liked)], rows[list(disliked)], None if query is None else rows[query])


def order(scores):
    return np.argsort(-scores, kind="stable")


@pytest.mark.parametrize("rule", feedback_rules())
def test_without_feedback_the_ranking_is_the_plain_one(shards, rule):
    plain = np.concatenate(shards) @ np.concatenate(shards)[0]
    assert (np.diff(plain[order(relevance(shards, judged(shards), rule))]) < 1e-6).all()  # but for ties of rounding


@pytest.mark.parametrize("rule", feedback_rules())
def test_the_order_of_judgements_is_nothing_and_no_share_no_feedback(shards, rule):
    said = judged(shards, [3, 250, 9], [7, 499])
    plain = np.concatenate(shards) @ said.query
    np.testing.assert_allclose(blend(shards, said, 0), plain, atol=1e-6)
    again = judged(shards, [9, 3, 250], [499, 7])
    np.testing.assert_allclose(relevance(shards, said, rule), relevance(shards, again, rule), atol=1e-4)


@pytest.mark.parametrize("rule", NEAREST)
def test_a_liked_picture_is_never_behind_a_copy_of_a_disliked_one(shards, rule):
    rows = np.concatenate(shards)
    doubled = (*shards, rows[[7, 499]])
    scores = relevance(doubled, judged(shards, [3, 250], [7, 499]), rule)
    assert scores[[0, 3, 250]].min() > scores[[7, 499, 500, 501]].max()


def test_the_three_rules_of_the_nearest_are_what_they_say(shards):
    rows, said = np.concatenate(shards), judged(shards, [3, 250], [7, 499])
    for x in (11, 200, 333):
        near, far = (rows[x] @ rows[[0, 3, 250]].T).max(), (rows[x] @ rows[[7, 499]].T).max()
        d_near, d_far = (np.linalg.norm(rows[some] - rows[x], axis=1).min() for some in ([0, 3, 250], [7, 499]))
        assert relevance(shards, said, "sign_margin")[x] == pytest.approx(near - far, abs=1e-5)
        assert relevance(shards, said, "nn_ratio")[x] == pytest.approx(d_far / (d_near + d_far), abs=1e-4)
        assert (relevance(shards, said, "hard_1nn")[x] > 1) == (near >= far)


def test_rocchio_moves_the_query(shards):
    rows, said = np.concatenate(shards), judged(shards, [3, 250], [7])
    moved = rows[0] + 0.75 * rows[[3, 250]].mean(0) - 0.15 * rows[7]
    np.testing.assert_allclose(relevance(shards, said, "rocchio"), rows @ moved / np.linalg.norm(moved), atol=1e-5)


@pytest.mark.parametrize("rule", feedback_rules())
def test_likes_pull_and_dislikes_push(shards, rule):
    rows = np.concatenate(shards)
    scores = relevance(shards, judged(shards, [3], [7]), rule)
    near = order(rows @ rows[3])[1:6], order(rows @ rows[7])[1:6]
    assert scores[near[0]].mean() > scores[near[1]].mean()


@pytest.mark.parametrize("rule", feedback_rules())
def test_words_alone_can_be_judged_too(shards, rule):
    rows = np.concatenate(shards)
    disliked = relevance(shards, judged(shards, [], [7], None), rule)
    assert disliked[7] == disliked.min()
    liked = relevance(shards, judged(shards, [3], [], None), rule)
    np.testing.assert_array_equal(order(liked)[:9], order(rows @ rows[3])[:9])


@pytest.mark.parametrize("rule", feedback_rules())
def test_half_precision_and_many_likes(shards, rule):
    half = tuple(shard.astype(np.float16) for shard in shards)
    said = judged(shards, range(1, 400), range(400, 480))
    scores = relevance(half, said, rule)
    assert np.isfinite(scores).all() and scores.shape == (500,)


def test_a_thing_moves_towards_the_liked_and_away_from_the_disliked_regions_but_stays_the_largest_part(shards):
    rows = np.concatenate(shards)
    thing, liked, disliked, nothing = rows[:2], rows[2:5], rows[5:9], rows[:0]
    moved = move(thing, liked, disliked)
    likes, dislikes = REGIONS_LIKED * 3 / (3 + FEW), REGIONS_DISLIKED * 4 / (4 + FEW)
    strange = disliked.mean(0) - (thing @ disliked.mean(0))[:, None] * thing
    np.testing.assert_allclose((strange * thing).sum(1), 0, atol=1e-6)
    expected = thing + likes * (liked.mean(0) - thing) - dislikes * strange
    np.testing.assert_allclose(moved, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(move(thing, nothing, nothing), thing, atol=1e-6)
    assert move(thing[:1], np.repeat(-thing[:1], 99, 0), np.repeat(thing[:1], 99, 0))[0] @ thing[0] > 0.99  # the worst
    assert thing.dtype == moved.dtype


def test_bad_input_is_one_sentence(shards):
    with pytest.raises(BadPrompt, match="Unknown feedback 'mine': use one of nn_ratio"):
        relevance(shards, judged(shards), "mine")


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    return speaking_searcher(tmp_path_factory.mktemp("feedback"), 14)


@pytest.fixture(scope="module")
def picture(searcher):
    return searcher.open(searcher.index.picture(searcher.index.item(3)))


def ids(hits):
    return [item.id for item in hits.items]


BOX = Prompt.box(20, 15, 80, 75)


@pytest.mark.parametrize("mode", ["query", "query-db"])
def test_a_pointed_search_learns(searcher, picture, mode):
    how: dict[str, Any] = {"mode": mode, "k": 14, "context": 1}
    plain = searcher.search(Query(picture, BOX, **how))
    learnt = searcher.search(Query(picture, BOX, **how, feedback=Feedback(liked=[9], disliked=[5])))
    rows = searcher.scorer.unit_vectors(plain.features, mode)
    opinion = Judgements(gather(rows, [9]), gather(rows, [5]), plain.features.vectors[0].numpy())
    assert ids(learnt) == [*(row for row in order(relevance(rows, opinion)).tolist() if row != 5), 5]
    assert learnt.is_fused and not plain.is_fused
    twice = Feedback(liked=[9, 9], disliked=[5, 5])
    assert ids(searcher.search(Query(picture, BOX, **how, feedback=twice))) == ids(learnt)


def test_what_was_seen_can_be_left_out(searcher, picture):
    plain = ids(searcher.search(Query(picture, BOX, k=14)))
    rest = searcher.search(Query(picture, BOX, k=14, exclude=plain[:4]))
    assert ids(rest) == plain[4:]
    with pytest.raises(BadPrompt, match="excluded or filtered out"):
        searcher.search(Query(picture, BOX, exclude=range(14)))


def test_words_and_mixed_searches_learn(searcher, picture):
    words = searcher.search(Query(text="thing 2", k=14))
    learnt = searcher.search(Query(text="thing 2", k=14, feedback=Feedback(liked=[2, 8], disliked=[ids(words)[1]])))
    assert ids(learnt)[0] == 2 and ids(learnt).index(8) < ids(words).index(8) or ids(words).index(8) == 1
    assert ids(learnt)[-1] == ids(words)[1]
    mixed = searcher.search(Query(picture, BOX, text="thing 2", k=14, context=1))
    last = ids(mixed)[-1]
    again = searcher.search(Query(picture, BOX, text="thing 2", k=14, context=1, feedback=Feedback(liked=[last])))
    assert ids(again).index(last) < 13


def test_only_dislikes_push_away(searcher, picture):
    plain = ids(searcher.search(Query(picture, k=14)))
    learnt = ids(searcher.search(Query(picture, k=14, feedback=Feedback(disliked=[plain[1]]))))
    assert learnt[0] == 3 and learnt[-1] == plain[1]


def test_judgements_that_make_no_sense_are_one_sentence(searcher, picture):
    with pytest.raises(BadPrompt, match="both liked and disliked"):
        searcher.search(Query(picture, feedback=Feedback(liked=[1, 2], disliked=[2])))
    with pytest.raises(BadIndex, match="no picture with id 99"):
        searcher.search(Query(picture, feedback=Feedback(liked=[99])))
    with pytest.raises(BadPrompt, match="Unknown feedback"):
        searcher.search(Query(picture, feedback=Feedback(liked=[1], rule="magic")))


def test_rows_are_taken_from_any_shard(shards):
    np.testing.assert_array_equal(
        gather(shards, [0, 199, 200, 201, 499]), np.concatenate(shards)[[0, 199, 200, 201, 499]]
    )
    assert gather(shards, []).shape == (0, 16)


def test_all_disliked_and_very_many_likes(searcher, picture):
    plain = ids(searcher.search(Query(picture, BOX, k=14)))
    everything = searcher.search(Query(picture, BOX, k=14, feedback=Feedback(disliked=plain)))
    assert sorted(ids(everything)) == sorted(plain) and np.isfinite(everything.scores).all()
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((600, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    learnt = relevance([rows], Judgements(rows[:500], rows[550:], rows[0]), "nn_ratio")
    assert learnt[:500].min() > learnt[550:].max()
