"""Bounded versions of the figures; the whole ones are measured by hand, see docs/reliability.md."""

import sys

import pytest

from tests.reliability import full_disk, power_cut, rot

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="records what a disk is told on Linux")


def test_a_power_cut_leaves_the_old_index_or_the_new_one():
    seen = power_cut.cut(("build", "update"), every=9)
    assert set(seen) == {"old", "new"}


def test_a_full_disk_is_said_to_be_full_and_costs_nothing_else():
    seen = full_disk.filled(("build", "update"), every=11)
    assert seen["tries"] > 5 and seen["said"] == seen["tries"]
    assert not seen["lost"] and not seen["stuck"]


def test_rot_is_found_and_never_signed():
    found = rot.flipped(places=2)
    assert found["open"] == found["verify"] == found["flips"]
    assert found["signed"] == 0
