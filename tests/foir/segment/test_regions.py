"""Region proposals of `mini` on composed scenes."""

import numpy as np
import pytest

from foir import Prompt, Unavailable, encoders
from foir.patches import rasterise
from foir.playroom import compose
from foir.segment import regions
from foir.segment.merge_tree import RegionTree
from foir.segment.regions import RegionProposals, RegionProposer, Scale
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


def test_regions_belong_to_the_encoder_they_were_learnt_for(toy, mini, tmp_path):
    with pytest.raises(Unavailable, match=f"not for those of {toy.name}"):
        RegionProposer(toy)
    (tmp_path / "boxes.safetensors").write_bytes(regions.FILE.read_bytes()[:3000])
    with pytest.raises(Unavailable, match="cannot be read"):
        RegionProposer(mini, tmp_path / "boxes.safetensors")


def test_tiny_and_thin_pictures_have_regions_too(mini):
    for size in ((3, 2), (900, 20)):
        grown = RegionProposer(mini)(scene(0, (160, 120)).resize(size))
        assert all(region.mask.shape == size[::-1] and region.mask.any() for region in grown.top())


def proposals(boxes, scores, tree=None):
    """Those of a picture of 50 x 50 pixels and 2 x 2 patches."""
    tree = tree or RegionTree(np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 2), int), (2, 2))
    return RegionProposals((50, 50), (Scale(tree, np.array(boxes, float) / 50, np.array(scores)),))


def test_of_overlapping_regions_the_best_is_kept_and_equal_ones_in_their_order():
    boxes = [(0, 0, 10, 10), (1, 0, 11, 10), (20, 20, 30, 30), (40, 40, 50, 50)]
    found = proposals(boxes, [0.5, 0.9, 0.4, 0.4])
    assert [region.box[0] for region in found.top(min_score=0.3)] == pytest.approx([1, 20, 40])
    assert [region.score for region in found.top(min_score=0.6, min_count=1)] == [0.9]
    assert len(found.top(max_count=2)) == 2


def test_a_point_means_the_best_box_around_it_and_the_outline_holds_it():
    boxes = [(0, 0, 30, 50), (0, 0, 50, 50), (26, 0, 50, 24), (0, 26, 24, 50)]
    found = proposals(boxes, [0.3, 0.6, 0.9, 0.8])
    assert found.at(28, 20).box == pytest.approx((26, 0, 50, 24))
    assert found.at(10, 10).box == pytest.approx((0, 0, 50, 50))
    assert proposals(boxes[2:3] * 4, [0.9] * 4).at(5, 40) is None
    # The left column of patches is a region: it outlines the box that it fits, unless the point is beside it.
    tree = RegionTree(np.array([(0, 0, 0.5, 1)]), np.array([4]), np.array([(0, 2)]), (2, 2))
    found = proposals([(0, 0, 30, 50)] * 4, [0.5] * 4, tree)
    left, both = found.at(10, 10).mask, found.at(28, 10).mask
    assert left[:, :25].all() and not left[:, 25:].any()
    assert both[:, :30].all() and not both[:, 30:].any()
