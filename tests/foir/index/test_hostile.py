"""Hostile indexes: each is refused in one sentence or opened safely, in bounded memory."""

import sys

import pytest

from tests.reliability import hostile_indexes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads memory from /proc")


def test_every_hostile_index_is_refused_in_a_sentence_or_opens_safely():
    told = hostile_indexes.tried()
    assert len(told) >= 100
    assert [one for one in told if one["outcome"] not in ("refused", "opened")] == []
