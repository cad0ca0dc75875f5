"""A query checks itself once: everything that makes no sense is one sentence of BadPrompt."""

import math
from typing import Any

import numpy as np
import pytest

from foir import BadPrompt, Feedback, Prompt, Query, images
from foir.search.query_encoder import encode_query
from foir.search.results import QueryImage

BOX = Prompt.box(20, 10, 80, 70)


@pytest.fixture(scope="module")
def image(toy, photo):
    return QueryImage(images.Photo(photo), toy.prefix(toy.pixels([photo])), lambda _: lambda prompt, mask: mask.pixels)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"options": {"h_on": "5"}}, "h_on"),
    ({"options": {"h_on": True}}, "h_on"),
    ({"options": {"h_on": 2.5}}, "h_on"),
    ({"options": {"keep": "12"}}, "keep"),
    ({"options": {"unknown": 1}}, "no option unknown"),
    ({"method": "foveal", "options": {"alpha": math.nan}}, "alpha"),
    ({"method": "foveal", "options": {"sigma": math.inf}}, "sigma"),
    ({"method": "nothing"}, "no method"),
    ({"method": "cbir|" * 5 + "cbir"}, "at most"),
    ({"mode": "other"}, "Unknown mode"),
    ({"k": 0}, "1 to 1000"),
    ({"k": 1001}, "1 to 1000"),
    ({"k": "5"}, "k must be a whole number"),
    ({"k": 2.5}, "k must be a whole number, not 2.5"),
    ({"text": "a dog", "text_weight": math.nan}, "must be 0 to 1"),
    ({"text": "a dog", "text_weight": -0.1}, "must be 0 to 1"),
    ({"text": " \n "}, "empty"),
    ({"text": "half \ud83d"}, "half of a character"),
    ({"text": "a\0b"}, "NUL"),
    ({"text": 5}, "text must be text or None, not a value of type int"),
    ({"filters": {"file": "\udfff"}}, "half of a character"),
    ({"filters": ["file"]}, "filters must be"),
    ({"feedback": None}, "feedback must be Feedback, not None"),
    ({"prompt": (1, 2)}, "prompt must be Prompt or None"),
    ({"method": {}}, "method must be text or None"),
    ({"patch_rule": "all"}, "Unknown rule"),
    ({"window": 2}, "odd number"),
    ({"window": 3.0}, "whole number"),
    ({"exclude": ["7"]}, "whole number"),
    ({"exclude": [True]}, "whole number"),
    ({"filters": {"colour": "red"}}, "cannot be filtered"),
    ({"filters": {"width": 10**23}}, "number of pixels"),
    ({"filters": {"height": "9" * 5000}}, "number of pixels"),
    ({"filters": {"width": -1}}, "number of pixels"),
    ({"prompt": Prompt(points=((1.0, 2.0, 3.0),))}, "2 numbers, not 3"),  # type: ignore[arg-type]
    ({"prompt": Prompt(boxes=((1.0, 2.0, 3.0),))}, "4 numbers, not 3"),  # type: ignore[arg-type]
    ({"prompt": Prompt.point(math.nan, 1)}, "finite"),
    ({"prompt": Prompt()}, "Nothing is pointed at"),
    ({"prompt": None, "method": "phs"}, "needs a point"),
    ({"mode": "small"}, "Unknown mode 'small': use one of query, query-db."),
    ({"context": math.nan}, "must be 0 to 1"),
    ({"context": 1.1}, "weight of the context must be 0 to 1, not 1.1"),
    ({"context": "0.5"}, "context must be"),
]


@pytest.mark.parametrize(("fields", "sentence"), BAD, ids=lambda value: str(value)[:40])
def test_what_makes_no_sense_is_one_sentence(image, fields, sentence):
    with pytest.raises(BadPrompt, match=sentence) as caught:
        Query(image, **({"prompt": BOX} | fields))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_foveal_window_of_no_width_is_refused(toy, image):
    with pytest.raises(BadPrompt, match="positive"):
        encode_query(toy, Query(image, BOX, method="foveal", options={"sigma": 0}))


def test_there_has_to_be_something_to_search_for():
    nothing: list[dict[str, Any]] = [{}, {"negative_text": "a dog"}, {"prompt": BOX, "text": "a dog"}]
    for fields in nothing:
        with pytest.raises(BadPrompt, match="nothing to search for"):
            Query(**fields)


@pytest.mark.parametrize(
    ("judged", "sentence"),
    [
        ({"rule": "other"}, "Unknown feedback"),
        ({"liked": [1], "boxes": {2: (0, 0, 9, 9)}}, "box on image 2, which is not judged"),
        ({"liked": [1], "boxes": {1: (5, 0, 5, 9)}}, "box on image 1 is empty"),
        ({"liked": [1], "disliked": [1]}, "both liked and disliked"),
        ({"liked": [1.0]}, "whole number"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused(judged, sentence):
    with pytest.raises(BadPrompt, match=sentence):
        Feedback(**judged)


def test_numbers_of_numpy_are_numbers(image):
    fields: dict[str, Any] = {
        "k": np.int64(5), "exclude": [np.int64(3)], "window": np.int64(3), "text_weight": np.float32(0.5),
        "options": {"h_on": np.int64(2)},
    }  # fmt: skip
    query = Query(image, BOX, text="a dog", **fields)
    assert query.k == 5 and type(query.k) is int
    with pytest.raises(BadPrompt, match="whole number"):
        Query(image, k=5.0)  # type: ignore[arg-type]


def test_a_query_holds_what_was_understood(image):
    query = Query(image, Prompt.box(80, 70, 20, 10), text="  a \n dog ", filters={"width": "160"})
    assert query.prompt is not None and query.prompt.boxes == ((20.0, 10.0, 80.0, 70.0),)
    assert query.text == "a dog" and query.filters == {"width": "160"}
    assert query.method_name == "attention_mask|phs" and Query(image).method_name == "cbir"
    assert not query.is_unrestricted and Query(image, BOX).is_unrestricted
    again = Query(image, query.prompt).prompt
    assert again is not None and again.boxes == query.prompt.boxes  # fitting again changes nothing
