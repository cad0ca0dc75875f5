"""A part of `bad_input.measure()`: no bad value leaves a traceback at any door."""

import logging

from tests.reliability import bad_input


def test_bad_input_is_answered_or_refused_in_a_sentence(tmp_path):
    tally = bad_input.try_all(tmp_path, 20)
    assert tally.failures == [] and tally.calls > 450


def test_a_traceback_would_be_seen():
    """What is tried here could otherwise hold since nobody looks."""
    tally = bad_input.Tally()
    tally.try_call("raises", lambda: [][1])
    assert tally.failures == ["raises: IndexError: list index out of range"]
    seen = bad_input.Tracebacks()
    with seen.watching():
        logging.getLogger("uvicorn.error").error("crash", exc_info=ValueError("inside"))
    assert seen.seen
