"""Recall by proposals; annotated boxes that are not on their image do not count."""

from dataclasses import replace

import numpy as np

from eval.experiments import proposal_recall
from eval.experiments.proposal_recall import ProposalRecall
from eval.experiments.specs import RunContext
from foir.segment.regions import Region


class Proposer:
    """Proposes one box on every image."""

    def __init__(self, encoder):
        pass

    def __call__(self, image):
        return self

    def top(self, min_count, max_count):
        return [Region((0, 0, 20, 20), np.ones((1, 1), bool), 1.0)]


def test_a_box_that_is_not_on_its_image_is_left_out_and_counted(captioned, toy, monkeypatch, capsys):
    monkeypatch.setattr(proposal_recall, "RegionProposer", Proposer)
    measure = ProposalRecall("made", "", (), ()).measure
    plain = measure(captioned, toy, RunContext())
    odd = ((900, 0, 990, 9), (float("nan"), 0, 9, 9))
    boxes = {"annotated": tuple(some + odd for some in captioned.boxes["annotated"])}
    found = measure(replace(captioned, boxes=boxes), toy, RunContext())
    assert [(cell.value, cell.n) for cell in found] == [(cell.value, cell.n) for cell in plain]
    assert plain[0].value == 50  # one of two boxes on each image
    assert {tuple(cell.oddities.values()) for cell in found} == {(12,)} and not plain[0].oddities
    assert "made: boxes outside their images or not of numbers: 12." in capsys.readouterr().out
