"""Arguments of another type than their annotation are refused in a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from foir.arguments import check_fields, check_text, checked
from foir.errors import BadPrompt


@checked
def take(
    count: int = 1,
    weight: float | None = None,
    name: Path | str = "",
    ids: Sequence[int] = (),
    size: tuple[int, int] = (1, 1),
    options: Mapping[str, int] = {},  # noqa: B006
    mode: Literal["a", "b"] = "a",
    anything: Any = None,
    array: np.ndarray | None = None,
):
    """Take arguments of every kind that annotations of foir have."""
    return count


GOOD = [
    {"count": np.int64(3)}, {"weight": 3}, {"weight": np.float32(0.5)}, {"name": Path("x")}, {"ids": [1, np.int8(2)]},
    {"ids": np.arange(3)}, {"ids": range(3)}, {"size": [1, 2]}, {"options": {"a": 1}}, {"mode": "b"},
    {"anything": object()},
    {"array": np.zeros(3)},
]  # fmt: skip
BAD: list[tuple[dict[str, Any], str]] = [
    ({"count": True}, "count must be a whole number, not True."),
    ({"count": 2.5}, "count must be a whole number, not 2.5."),
    ({"count": "9" * 5000}, "count must be a whole number, not a value of type str."),
    ({"weight": 1j}, "weight must be a number or None, not a value of type complex."),
    ({"weight": "x\n"}, "weight must be a number or None, not 'x\\n'."),
    ({"name": b"x"}, "name must be Path or text, not a value of type bytes."),
    ({"ids": "12"}, "ids must be a list of whole numbers, not '12'."),
    ({"ids": [1, None]}, "ids must be a list of whole numbers, not a value of type list."),
    ({"ids": np.array(3)}, "ids must be a list of whole numbers, not a value of type ndarray."),
    ({"ids": {1}}, "ids must be a list of whole numbers, not a value of type set."),
    ({"size": (1, 2, 3)}, "size must be a list of 2 whole numbers, not a value of type tuple."),
    ({"options": {1: 1}}, "options must be Mapping, not a value of type dict."),
    ({"mode": "c"}, "mode must be 'a' or 'b', not 'c'."),
    ({"mode": []}, "mode must be 'a' or 'b', not a value of type list."),
    ({"array": [[1]]}, "array must be ndarray or None, not a value of type list."),
]


@pytest.mark.parametrize("given", GOOD, ids=str)
def test_what_fits_its_annotation_passes(given):
    take(**given)


@pytest.mark.parametrize(("given", "sentence"), BAD, ids=lambda value: str(value)[:40])
def test_what_does_not_is_refused(given, sentence):
    with pytest.raises(BadPrompt) as caught:
        take(**given)
    assert str(caught.value) == sentence


def test_arguments_by_position_are_checked_too():
    assert take(7) == 7
    with pytest.raises(BadPrompt, match="weight"):
        take(7, "x")  # type: ignore[arg-type]


def test_fields_of_a_record_are_checked():
    check_fields(Record(3))
    with pytest.raises(BadPrompt, match="number must be a whole number, not None"):
        check_fields(Record(None))  # type: ignore[arg-type]


@dataclass
class Record:
    number: int


@pytest.mark.parametrize("text", ["a\0", "\ud800", "\udfff x"])
def test_text_that_is_no_unicode_is_refused(text):
    check_text("ü \U0001f600 \n")
    with pytest.raises(BadPrompt, match="half of a character"):
        check_text(text)
