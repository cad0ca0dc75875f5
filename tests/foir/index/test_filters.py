"""Filters by what images say about themselves."""

import calendar
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foir import BadPrompt
from foir.index.filters import parse_filters
from foir.index.format import ITEM_SCHEMA

ROWS: list[dict[str, Any]] = [
    {"file": "2024/summer/a.jpg", "camera": "Pixel 9", "taken": (2024, 6, 30, 23, 59, 59), "keywords": "dog\nbeach"},
    {"file": "2024/summer_2/b.jpg", "camera": "Pixel 9 Pro", "taken": (2024, 7, 1, 0, 0, 0), "keywords": "dogs"},
    {
        "file": "2024/c_100%.jpg",
        "camera": "Nikon D90",
        "taken": (2024, 2, 29, 8, 0, 0),
        "keywords": "beach",
        "rating": 5,
    },
    {"file": "d.jpg", "width": 4000, "licence": "MIT"},
]


@pytest.fixture(scope="module")
def table():
    rows = []
    for number, row in enumerate(ROWS):
        taken = row.get("taken")
        rows.append({"id": number, "width": 100, "height": 80, **row, "taken": taken and calendar.timegm(taken)})
    return pa.Table.from_pylist(rows, ITEM_SCHEMA)


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ({}, [0, 1, 2, 3]),
        ({"camera": "Pixel 9"}, [0]),
        ({"camera": "Pixel*"}, [0, 1]),
        ({"camera": "*D90"}, [2]),
        ({"date": "2024-06"}, [0]),
        ({"date": "2024-06..2024-08"}, [0, 1]),
        ({"date": "..2024-06-29"}, [2]),
        ({"date": "2024-07-01.."}, [1]),
        ({"date": "2024-02-29"}, [2]),
        ({"date": "2024-02-29T08:00"}, [2]),
        ({"date": "2024"}, [0, 1, 2]),
        ({"date": "2024-12"}, []),
        ({"folder": "2024"}, [0, 1, 2]),
        ({"folder": "2024/summer/"}, [0]),
        ({"folder": "2024/sum*"}, [0, 1]),
        ({"file": "2024/c_100%.jpg"}, [2]),
        ({"file": "*_100%*"}, [2]),
        ({"file": "*c%100*"}, []),
        ({"keyword": "dog"}, [0]),
        ({"keyword": "dog*"}, [0, 1]),
        ({"keyword": "*each"}, [0, 2]),
        ({"keyword": "*ea*"}, [0, 2]),
        ({"keyword": "d*"}, [0, 1]),
        ({"keyword": "og"}, []),
        ({"keyword": "beach"}, [0, 2]),
        ({"keyword": "beach", "rating": "4.."}, [2]),
        ({"width": "200..", "licence": "MIT"}, [3]),
        ({"width": 100}, [0, 1, 2]),
    ],
)
def test_filters(table, filters, rows):
    passing = np.ones(len(ROWS), bool)
    for condition in parse_filters(filters):
        passing &= condition.passes(table)
    assert np.flatnonzero(passing).tolist() == rows


def test_in_the_language_of_a_database():
    by_date, by_camera = parse_filters({"date": "2024-06..", "camera": 'the "Best"_*'})
    assert by_date.expression == f"(taken >= {calendar.timegm((2024, 6, 1, 0, 0, 0))})"
    assert by_camera.expression == r'(camera like "the \"Best\"\\_%")'


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ({"colour": "red"}, "one of file"),
        ({"date": "summer"}, "is no date"),
        ({"date": "2024-13"}, "is no date"),
        ({"date": "2023-02-29"}, "is no date"),
        ({"date": "9999"}, "is no date"),
        ({"date": ".."}, "neither end"),
        ({"width": "wide"}, "number of pixels"),
        ({"rating": "five"}, "number of stars"),
        ({"keyword": "d*h"}, "not inside"),
        ({"file": "a\0b"}, "NUL"),
    ],
)
def test_what_is_no_filter_is_one_sentence(filters, sentence):
    with pytest.raises(BadPrompt, match=sentence):
        parse_filters(filters)
