"""Region proposals of `mini` on composed scenes."""

import numpy as np
import pytest

from foir import Prompt, Unavailable, encoders
from foir.patches import rasterise
from foir.playroom import compose
from foir.segment import regions
from foir.segment.merge_tree import RegionTree
from foir.segment.regions import RegionProposals, RegionProposer
from tests.conftest import iou, scene


@pytest.fixture(scope="module")
def mini():
    return encoders.load("mini", device="cpu")


def test_a_click_on_a_thing_of_the_playroom_gives_its_box(mini):
    grow, found, asked = RegionProposer(mini), 0, 0
    for number in range(3):
        composed = compose("held-out", 500 + number)
        outline = grow.outline(composed.image)
        for thing in composed.objects:
            ys, xs = np.nonzero(thing.mask)
            middle = len(ys) // 2  # a point that is on the thing
            prompt = Prompt.point(float(xs[middle]), float(ys[middle]))
            mask = outline(prompt, rasterise(prompt, composed.image.size, mini.grid))
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], float)
            found += float(iou(box, np.array([thing.box], float))[0]) >= 0.5
            asked += 1
    assert asked > 10 and found >= 0.7 * asked, f"{found} of {asked}"


def test_proposals_find_most_things_of_the_playroom(mini):
    composed = compose("held-out", 510)
    proposed = np.array([region.box for region in RegionProposer(mini)(composed.image).top()])
    hit = [float(iou(np.array(thing.box, float), proposed).max()) >= 0.5 for thing in composed.objects]
    assert sum(hit) >= 0.6 * len(hit) and len(proposed) <= regions.MAX_REGIONS
    for region in RegionProposer(mini)(composed.image).top():
        ys, xs = np.nonzero(region.mask)
        assert region.mask.shape == (480, 640)
        assert region.box[0] - 1 <= xs.min() and xs.max() <= region.box[2] + 1


def test_regions_belong_to_the_encoder_they_were_learnt_for(toy, tmp_path):
    with pytest.raises(Unavailable, match="trained for mini"):
        RegionProposer(toy)
    (tmp_path / "rules.json").write_text("{}")
    with pytest.raises(Unavailable, match="cannot be read"):
        RegionProposer(toy, tmp_path / "rules.json")


def test_tiny_and_thin_pictures_have_regions_too(mini):
    for size in ((3, 2), (900, 20)):
        grown = RegionProposer(mini)(scene(0, (160, 120)).resize(size))
        assert all(region.mask.shape == size[::-1] for region in grown.top())


def test_of_overlapping_regions_the_best_is_kept_and_equal_ones_in_their_order():
    boxes = np.array([(0, 0, 10, 10), (1, 0, 11, 10), (20, 20, 30, 30), (40, 40, 50, 50)]) / 50
    tree = RegionTree(boxes, np.zeros((4, 1)), np.arange(4), np.zeros((0, 2), int), (2, 2))
    proposals = RegionProposals((50, 50), (tree,), (np.array([0.5, 0.9, 0.4, 0.4]),))
    assert [region.box[0] for region in proposals.top()] == pytest.approx([1, 20, 40])
    assert [region.score for region in proposals.top(min_score=0.6, min_count=1)] == [0.9]
    assert len(proposals.top(max_count=2)) == 2
