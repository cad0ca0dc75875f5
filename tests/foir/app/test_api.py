"""What programs can ask: the answers are the Searcher's, and what is no question gets one sentence."""

import base64
import io
import json

import pytest

from foir import BadImage, BadIndex, BadPrompt, FoirError, Index, Prompt, Searcher, encoders
from foir.app.api import MAX_RESULTS, Api
from foir.app.collections import Collections
from foir.app.controller import Controller
from foir.app.sessions import MAX_TEXT
from foir.search.query import Feedback, Query
from index_build.pipeline import Plan, build
from tests.conftest import draw, scene


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    root = tmp_path_factory.mktemp("endpoints")
    build(Plan(draw(root / "pictures", 12), root / "index", "toy-words", heads=True, device="cpu"))
    return Searcher(Index.open(root / "index"), encoders.load("toy-words", device="cpu"))


@pytest.fixture(scope="module")
def ask(searcher):
    return Api(Collections([searcher.index.folder], lambda _, key: Controller(searcher.index, lambda: searcher, key)))


def encoded(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def told(hits):
    return [(item.id, pytest.approx(float(score))) for item, score in zip(hits.items, hits.scores, strict=True)]


def found(answer):
    return [(hit["id"], hit["score"]) for hit in answer]


BOX = [20.0, 10.0, 80.0, 70.0]


def test_a_picture_of_ones_own_and_one_of_the_collection(ask, searcher):
    picture = searcher.open(searcher.index.picture(searcher.index.item(3)))
    same = searcher.search(Query(picture, Prompt.box(*BOX), k=5, options={"h_on": 2}))
    assert found(ask.search(item=3, boxes=[BOX], k=5, heads=2)) == told(same)
    own = encoded(scene(3))
    assert found(ask.search(own, boxes=[BOX], k=5, heads=2)) == told(same)
    assert found(ask.search(f"data:image/png;base64,{own}", boxes=[BOX], k=5, heads=2)) == told(same)
    [key] = (collection["key"] for collection in ask.collections())
    whole = ask.search(item=3, k=1, collection=key)[0]
    assert whole["id"] == 3 and whole["thumbnail"] == f"/thumb/{key}/3" and whole["file"] == whole["name"]


def test_hits_say_where_they_hold_what_was_marked(ask, searcher):
    picture = searcher.open(searcher.index.picture(searcher.index.item(3)))
    hits = searcher.search(
        Query(picture, Prompt(boxes=((20.0, 10.0, 80.0, 70.0), (90, 40, 150, 110))), k=5, context=0.5)
    )
    answer = ask.search(item=3, boxes=[BOX, [90, 40, 150, 110]], k=5, context=0.5)
    assert found(answer) == told(hits)
    for hit, regions in zip(answer, hits.regions, strict=True):
        assert [(each["box"], each["score"]) for each in hit["regions"]] == [(each.box, each.score) for each in regions]
        assert len(regions) == 2
    json.dumps(answer, allow_nan=False)
    assert all(hit["regions"] == [] for hit in ask.search(item=3, boxes=[BOX], k=5, context=1.0))
    with pytest.raises(BadPrompt, match="context must be 0 to 1"):
        ask.search(item=3, boxes=[BOX], context=1.5)


def test_words_modes_and_judgements(ask, searcher):
    assert found(ask.search_text("a red thing", k=4)) == told(searcher.search(Query(text="a red thing", k=4)))
    picture = searcher.open(searcher.index.picture(searcher.index.item(1)))
    both = searcher.search(Query(picture, Prompt.point(40, 40), "red", "blue", text_weight=0.3, mode="query-db", k=4))
    asked = {
        "item": 1,
        "points": [[40, 40]],
        "text": "red",
        "negative_text": "blue",
        "text_weight": 0.3,
        "mode": "query-db",
        "k": 4,
    }
    assert found(ask.search(**asked)) == told(both)
    judged = searcher.search(Query(picture, Prompt.box(*BOX), feedback=Feedback([2], [4]), exclude=[5, 6], k=4))
    answer = ask.feedback([2], [4], item=1, boxes=[BOX], exclude=[5, 6], k=4)
    assert found(answer) == told(judged)
    assert not {5, 6} & {hit["id"] for hit in answer}
    boxes = {2: (0.0, 0.0, 40.0, 40.0)}
    meant = searcher.search(Query(picture, Prompt.box(*BOX), feedback=Feedback([2], [4], boxes=boxes), k=4))
    assert found(ask.feedback([2], [4], item=1, boxes=[BOX], meant={"2": boxes[2]}, k=4)) == told(meant)


def test_a_caption_is_a_sentence_or_nothing(ask):
    assert isinstance(ask.caption(item=0), str)


@pytest.mark.parametrize(
    ("name", "asked", "error", "words"),
    [
        ("search", {}, BadPrompt, "an image or the id"),
        ("search", {"image": "AAAA", "item": 1}, BadPrompt, "an image or the id"),
        ("search", {"image": "no base64!"}, BadImage, "base64"),
        ("search", {"image": "/etc/passwd"}, BadImage, ""),
        ("search", {"image": base64.b64encode(b"no picture").decode()}, BadImage, ""),
        ("search", {"image": {"path": "/etc/passwd"}}, BadPrompt, "image"),
        ("search", {"item": 1, "collection": "/etc"}, BadPrompt, "no such collection"),
        ("search", {"item": 99}, BadIndex, "no picture with id 99"),
        ("search", {"item": "x"}, BadPrompt, "item"),
        ("search", {"item": 1, "k": MAX_RESULTS + 1}, BadPrompt, f"1 to {MAX_RESULTS}"),
        ("search", {"item": 1, "k": 0}, BadPrompt, f"1 to {MAX_RESULTS}"),
        ("search", {"item": 1, "mode": "all"}, BadPrompt, "mode"),
        ("search", {"item": 1, "method": "nothing"}, BadPrompt, "nothing"),
        ("search", {"item": 1, "boxes": [[1, 2]]}, BadPrompt, "boxes"),
        ("search", {"item": 1, "boxes": "all"}, BadPrompt, "boxes"),
        ("search", {"item": 1, "points": [[float("nan"), 1.0]]}, BadPrompt, ""),
        ("search", {"item": 1, "text": "x" * (MAX_TEXT + 1)}, BadPrompt, f"{MAX_TEXT}"),
        ("search", {"item": 1, "text_weight": "half"}, BadPrompt, "text_weight"),
        ("search", {"item": 1, "boxes": [BOX], "heads": 99}, BadPrompt, "heads"),
        ("search_text", {"text": " "}, BadPrompt, "nothing to search for"),
        ("feedback", {"liked": [1], "disliked": [1], "item": 1}, BadPrompt, "both liked and disliked"),
        ("feedback", {"liked": [[1]], "disliked": [], "item": 1}, BadPrompt, "liked"),
        ("feedback", {"liked": [77], "disliked": [], "item": 1}, BadIndex, "77"),
        (
            "feedback",
            {"liked": [1], "disliked": [], "item": 1, "meant": {"x": [1, 2, 3, 4]}},
            BadPrompt,
            "four numbers",
        ),
        ("feedback", {"liked": [1], "disliked": [], "item": 1, "meant": {"1": [1, 2]}}, BadPrompt, "four numbers"),
        ("caption", {"item": 1, "strength": "far"}, BadPrompt, "strength"),
    ],
)
def test_what_is_no_question_gets_one_sentence(ask, name, asked, error, words):
    with pytest.raises(error) as caught:
        getattr(ask, name)(**asked)
    assert isinstance(caught.value, FoirError)
    assert words in str(caught.value) and str(caught.value).count("\n") == 0
