"""Object embeddings and the matching head against slow readings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eval.experiments import text_ranking
from eval.experiments.specs import Row
from tests.conftest import scene, with_members
from tests.eval.experiments.test_query_perturbation import ROWS


def test_object_embeddings_are_of_the_objects_patches(captioned, speaking):
    tokens = speaking.encode_images([scene(0)])
    batch = text_ranking.Batch(0, tokens, [scene(0).size])
    (regions,) = text_ranking.regions(speaking, captioned, ROWS[3], batch)
    got = text_ranking.object_vectors(speaking, tokens, regions)
    keep = [0, 1, 2, 3, 4, *(5 + np.flatnonzero(regions[1].patches.reshape(-1))).tolist()]
    np.testing.assert_allclose(got[1], speaking.image_vectors(tokens[:, keep])[0, 0].numpy(), atol=1e-6)
    assert len(text_ranking.object_vectors(speaking, tokens, [])) == 0


def test_the_matching_head_ranks_the_shortlist_again(captioned, speaking, monkeypatch):
    monkeypatch.setattr(text_ranking, "SHORTLIST", 3)

    def match(tokens, texts, pull=None):
        shift = 0 if pull is None else pull.strength
        return torch.tensor([len(text) + float(text.split()[-1]) * 2 + shift for text in texts]) * tokens[:, 0, 0]

    judged = with_members(speaking, match=match)
    rows = (Row("plain"), Row("qpert", {"boxes": "annotated", "strength": 2, "mode": "legacy"}))
    words = speaking.encode_texts([text for said in captioned.captions for text in said]).vectors
    plain = np.stack(
        [speaking.image_vectors(speaking.encode_images([load()]))[0, 0].numpy() for load in captioned.images]
    )
    known = {row: words @ plain.T for row in rows}
    ranked = text_ranking.match_scores(captioned, judged, rows, known)
    texts = [text for said in captioned.captions for text in said]
    for row, shift in ((rows[0], 0), (rows[1], 2)):
        by_text, by_picture = ranked(row)
        for t, text in enumerate(texts):
            for p, load in enumerate(captioned.images):
                s = known[row]
                first = float(speaking.encode_images([load()])[0, 0, 0])
                final = (len(text) + float(text.split()[-1]) * 2 + shift) * first + s[t, p]
                near = (s[t] > s[t, p]).sum() < 3, (s[:, p] > s[t, p]).sum() < 3
                assert by_text[t, p] == pytest.approx(final if near[0] else text_ranking.OUTSIDE, abs=1e-4)
                assert by_picture[t, p] == pytest.approx(final if near[1] else text_ranking.OUTSIDE, abs=1e-4)


def test_boxes_that_the_model_does_not_see_are_skipped_and_counted(captioned, speaking, capsys):
    """Of a model that sees the middle: an object there counts as ever, one outside as if it were not annotated."""
    cut = with_members(speaking, crop=lambda size: (slice(0, 120), slice(60, 160)))
    texts = speaking.encode_texts(captioned.texts).vectors
    rows = (Row("plain"), *(replace(row, options={**row.options, "boxes": "annotated"}) for row in ROWS[1:4]))
    ranks, _ = text_ranking.rank_rows(captioned, cut, rows, texts)
    said = "boxes (annotated) outside what toy-words sees of their images: 7, skipped"
    assert said in capsys.readouterr().out.splitlines()
    inside = tuple(tuple(box for box in boxes if box[2] > 60) for boxes in captioned.boxes["annotated"])
    without, _ = text_ranking.rank_rows(replace(captioned, boxes={"annotated": inside}), cut, rows, texts)
    assert "skipped" not in capsys.readouterr().out
    for row in rows:
        assert all(np.array_equal(a, b) for a, b in zip(ranks[row], without[row], strict=True))


def test_a_box_outside_its_picture_is_skipped_too(captioned, speaking, capsys):
    boxes = ((500.0, 500.0, 600.0, 600.0), *captioned.boxes["annotated"][0])
    strayed = replace(captioned, boxes={"annotated": (boxes, *captioned.boxes["annotated"][1:])})
    texts = speaking.encode_texts(captioned.texts).vectors
    ranks, _ = text_ranking.rank_rows(strayed, speaking, ROWS[:4], texts)
    expected, _ = text_ranking.rank_rows(captioned, speaking, ROWS[:4], texts)
    for row in ROWS[:4]:
        assert all(np.array_equal(a, b) for a, b in zip(ranks[row], expected[row], strict=True))
    assert "skipped" not in capsys.readouterr().out  # the model sees all of the picture; the data set counts the box
