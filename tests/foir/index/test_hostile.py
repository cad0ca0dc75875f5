"""Hostile indexes: each is refused in one sentence or opened safely, in bounded memory.

The suite tries every fourth; `python -m tests.reliability hostile_indexes` tries all.
"""

import sys

import pytest

from tests.reliability import hostile_indexes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads memory from /proc")


def test_hostile_indexes_are_refused_in_a_sentence_or_open_safely():
    told = hostile_indexes.tried(every=4)
    assert len(told) >= 100
    assert [one for one in told if one["outcome"] not in ("refused", "opened")] == []
