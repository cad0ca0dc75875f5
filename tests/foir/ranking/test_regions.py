"""Best regions, against a loop over every vector."""

import numpy as np
import pytest

from foir.index import Regions
from foir.ranking.regions import best_regions, best_scores

ERROR = 3e-4


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def pictures():
    """Vectors and boxes of 90 pictures, 1 to 16 each."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 17, 90)
    return [
        (unit(random.standard_normal((count, 32))).astype(np.float16), random.integers(0, 9, (count, 4), np.uint16))
        for count in counts
    ]


@pytest.fixture(scope="module")
def regions(pictures):
    shards = [pictures[:40], pictures[40:41], pictures[41:]]
    vectors, boxes = (
        tuple(np.concatenate([picture[part] for picture in shard]) for shard in shards) for part in (0, 1)
    )
    counts = [[len(picture[0]) for picture in shard] for shard in shards]
    return Regions("recipe", vectors, boxes, tuple(np.cumsum([0, *each]).astype(np.int32) for each in counts))


def literal(pictures, asked):
    """Score and place of each picture's best region, in float64."""
    best = []
    for vectors, _ in pictures:
        cosines = [max(float(vector.astype(float) @ one.astype(float)) for one in asked) for vector in vectors]
        best.append((max(cosines), int(np.argmax(cosines))))
    return best


@pytest.mark.parametrize("count", [1, 3])
def test_the_scan_finds_the_best_region_of_every_picture(pictures, regions, count):
    asked = unit(np.random.default_rng(count).standard_normal((count, 32))).astype(np.float32)
    expected = np.array([score for score, _ in literal(pictures, asked)])
    found = best_scores(regions, asked)
    assert found.dtype == np.float32 and np.abs(found - expected).max() <= ERROR


@pytest.mark.parametrize("count", [1, 3])
def test_the_best_regions_of_some_pictures_are_exact(pictures, regions, count):
    asked = unit(np.random.default_rng(count).standard_normal((count, 32))).astype(np.float32)
    expected, rows = literal(pictures, asked), [89, 0, 40, 39, 41]
    for row, found in zip(rows, best_regions(regions, rows, asked), strict=True):
        score, place = expected[row]
        assert found.score == pytest.approx(score, abs=1e-6)
        np.testing.assert_array_equal(found.box, pictures[row][1][place])


def test_a_row_has_the_regions_of_its_picture_in_any_shard(pictures, regions):
    for row, (vectors, boxes) in enumerate(pictures):
        own, places = regions.of_row(row)
        np.testing.assert_array_equal(own, vectors)
        np.testing.assert_array_equal(places, boxes)
    with pytest.raises(IndexError):
        regions.of_row(90)


def test_some_pictures_keep_their_regions_in_their_order(pictures, regions):
    some = regions.subset([40, 3, 89])
    assert some.recipe == "recipe" and len(some.vectors) == 1
    for place, row in enumerate((40, 3, 89)):
        np.testing.assert_array_equal(some.of_row(place)[0], pictures[row][0])
        np.testing.assert_array_equal(some.of_row(place)[1], pictures[row][1])
    asked = pictures[3][0][:1].astype(np.float32)
    np.testing.assert_allclose(best_scores(some, asked), best_scores(regions, asked)[[40, 3, 89]], atol=1e-6)
