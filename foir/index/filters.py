"""Filters of images by their facts: one form for the tables of an index and for a database.

A value is what a field must be. `*` in a text stands for any characters; `low..high` is a range of numbers or dates, of
which either end may be missing. A date is a year, a month, a day, or a time: 2024, 2024-06, 2024-06-15,
2024-06-15T18:30. A folder holds its own folders, and a keyword is one of an image's.
"""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foir.arguments import check_text, checked
from foir.errors import BadPrompt

# Field to column.
TEXTS = {name: name for name in ("file", "caption", "source", "licence", "camera", "lens")}
NUMBERS = {"width": "width", "height": "height", "rating": "rating", "date": "taken"}
FIELDS = (*TEXTS, *NUMBERS, "folder", "keyword")
MAX_NUMBER = 2**31 - 1
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2}):(\d\d))?)?)?")
_ESCAPED = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})  # in a pattern of LIKE


@dataclass(frozen=True)
class Filter:
    """A condition on one column.

    Attributes:
        column: Of the table of images.
        equal: A text that it must be, one of several; None where it is no such condition.
        like: Patterns of SQL's LIKE, one of which it must match beside `equal`.
        low: Least number.
        high: Largest number.
    """

    column: str
    equal: str | None = None
    like: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None

    def passes(self, table: pa.Table) -> np.ndarray:
        """Which rows of a table of images pass, bool [n]."""
        column, passing = table[self.column], []
        if self.equal is not None:
            passing.append(pc.equal(column, self.equal))
        passing += [pc.match_like(column, pattern) for pattern in self.like]
        if passing:
            return np.logical_or.reduce([pc.fill_null(each, False).to_numpy() for each in passing])
        kept = np.ones(len(table), bool)
        for limit, compare in ((self.low, pc.greater_equal), (self.high, pc.less_equal)):
            if limit is not None:
                kept &= pc.fill_null(compare(column, limit), False).to_numpy()
        return kept

    @property
    def expression(self) -> str:
        """The condition in the language of Milvus."""
        texts = [] if self.equal is None else [f"{self.column} == {_literal(self.equal)}"]
        texts += [f"{self.column} like {_literal(pattern)}" for pattern in self.like]
        if texts:
            return f"({' or '.join(texts)})"
        limits = [] if self.low is None else [f"{self.column} >= {self.low}"]
        limits += [] if self.high is None else [f"{self.column} <= {self.high}"]
        return f"({' and '.join(limits)})"


@checked
def checked_filters(filters: Mapping[str, str | int] | None) -> dict[str, str | int]:
    """Filters that `parse_filters` takes.

    Raises:
        BadPrompt: A field is unknown, or its value is none of its kind.
    """
    parse_filters(filters)
    return dict(filters or {})


def parse_filters(filters: Mapping[str, str | int] | None) -> tuple[Filter, ...]:
    """The conditions of filters, by field; all must hold.

    Raises:
        BadPrompt: See `checked_filters`.
    """
    return tuple(_parse(name, str(value)) for name, value in (filters or {}).items())


def _parse(name: str, value: str) -> Filter:
    check_text(value)
    if name in NUMBERS:
        return _range(name, value)
    if name in TEXTS:
        if "*" in value:
            return Filter(name, like=(_pattern(value),))
        return Filter(name, equal=value)
    if name == "folder":
        folder = value.strip("/")
        return Filter("file", like=("%" if folder in ("", ".") else _pattern(folder + "/*"),))
    if name == "keyword":
        return _keyword(value)
    raise BadPrompt(f"Results cannot be filtered by {name!r}: use one of {', '.join(FIELDS)}.")


def _keyword(value: str) -> Filter:
    """A condition on one line of the keywords; a pattern could cross to the next one only where `*` is inside."""
    if "*" in value.strip("*"):
        raise BadPrompt(f"A keyword may have * at its beginning and its end, not inside: {value[:40]!r}.")
    word = value.strip("*").translate(_ESCAPED)
    starts = ("%",) if value.startswith("*") else ("", "%\n")
    ends = ("%",) if value.endswith("*") else ("", "\n%")
    return Filter("keywords", like=tuple(f"{start}{word}{end}" for start in starts for end in ends))


def _range(name: str, value: str) -> Filter:
    first, dots, last = (part.strip() for part in value.partition(".."))
    ends = (first, last) if dots else (first, first)
    if not any(ends):
        raise BadPrompt(f"The {name} {value[:40]!r} has neither end: write LOW..HIGH.")
    limits = _period if name == "date" else _number
    low, high = (limits(name, end) if end else (None, None) for end in ends)
    return Filter(NUMBERS[name], low=low[0], high=high[1])


def _number(name: str, text: str) -> tuple[int, int]:
    if not (text.isdecimal() and len(text) <= 10 and int(text) <= MAX_NUMBER):
        unit = "a number of stars" if name == "rating" else "a number of pixels"
        raise BadPrompt(f"The {name} of an image is {unit}, or a range as LOW..HIGH, not {text[:40]!r}.")
    return int(text), int(text)


def _period(name: str, text: str) -> tuple[int, int]:
    """First and last second of a year, month, day or minute."""
    match = _DATE.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        parts = [int(part) for part in match.groups() if part is not None]
        year, month, day, hour, minute = parts + [1, 1, 1, 0, 0][len(parts) :]
        start = datetime(year, month, day, hour, minute)
        if len(parts) == 1:
            end = datetime(start.year + 1, 1, 1)
        elif len(parts) == 2:
            end = datetime(start.year + start.month // 12, start.month % 12 + 1, 1)
        else:
            end = start + (timedelta(days=1) if len(parts) == 3 else timedelta(minutes=1))
    except (ValueError, OverflowError):
        raise BadPrompt(f"{text[:40]!r} is no date: write 2024, 2024-06, 2024-06-15 or 2024-06-15T18:30.") from None
    return calendar.timegm(start.timetuple()), calendar.timegm(end.timetuple()) - 1


def _pattern(text: str) -> str:
    """A text in which `*` stands for any characters, as a pattern of LIKE."""
    return text.translate(_ESCAPED).replace("*", "%")


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
