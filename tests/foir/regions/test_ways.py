"""The ways of making region vectors, against what they say they are."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from foir import BadPrompt, Prompt, methods
from foir.patches import PatchMask
from foir.regions.encoder import RegionEncoder
from foir.regions.recipe import RegionRecipe
from foir.regions.ways import find_way, region_ways
from foir.regions.ways.blended import POOLED
from foir.regions.windows import window_masks
from tests.conftest import scene

SIDE = 112  # of the toy's input
WHOLE = Prompt.box(0, 0, SIDE, SIDE)


@pytest.fixture(scope="module")
def prefix(toy):
    return toy.prefix(toy.pixels([scene(0), scene(1), scene(2)]))


@pytest.fixture(scope="module")
def windows(toy):
    return window_masks(toy.grid)


def vectors(name, toy, prefix, windows):
    return find_way(name).vectors(toy, prefix, torch.from_numpy(windows.reshape(len(windows), -1)), None)


def cosines(one, other):
    return (one * other).sum(-1)


def test_masked_is_the_attention_mask_of_the_papers_under_every_window(toy, prefix, windows):
    found = vectors("masked", toy, prefix, windows)
    assert found.shape == (3, len(windows), 48) and found.dtype == torch.float32
    pixels = np.ones((SIDE, SIDE), bool)
    steps = [methods.intervene("attention_mask", WHOLE, PatchMask(window, pixels)) for window in windows]
    for picture in range(3):
        asked = toy.finish(prefix[picture], steps).vectors
        assert cosines(found[picture], asked).min() >= 1 - 1e-5


def test_masked_under_everything_is_the_plain_feature(toy, prefix):
    found = vectors("masked", toy, prefix, np.ones((1, *toy.grid), bool))[:, 0]
    assert cosines(found, toy.finish(prefix).vectors).min() >= 1 - 1e-5


def test_pooled_is_the_mean_of_the_normed_patches(toy, prefix, windows):
    found = vectors("pooled", toy, prefix, windows)
    with torch.inference_mode():
        hidden = toy.norm(toy.layers[-1](prefix.block.tokens))[:, toy.first_patch :].double()
        for picture in range(3):
            for number, window in enumerate(windows):
                total = torch.zeros(48, dtype=torch.float64)
                for patch in np.flatnonzero(window.reshape(-1)):
                    total += hidden[picture, patch]
                mean = toy.project((total / window.sum()).float()[None])[0]
                assert cosines(found[picture, number], normalize(mean, dim=0)) >= 1 - 1e-5


def test_blended_is_the_unit_sum_of_both(toy, prefix, windows):
    masked, pooled = (vectors(name, toy, prefix, windows) for name in ("masked", "pooled"))
    assert cosines(vectors("blended", toy, prefix, windows), normalize(masked + POOLED * pooled, dim=-1)).min() > 0.9999


@pytest.mark.parametrize("name", region_ways())
def test_a_batch_is_its_pictures_one_by_one_and_every_vector_is_of_length_one(toy, prefix, windows, name):
    found = vectors(name, toy, prefix, windows)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(found.shape[:2]), atol=1e-5, rtol=0)
    for picture in range(3):
        assert cosines(found[picture], vectors(name, toy, prefix[picture], windows)[0]).min() >= 1 - 1e-5


@pytest.mark.parametrize("name", region_ways())
def test_a_window_is_the_same_alone_and_among_others(toy, prefix, windows, name):
    alone = vectors(name, toy, prefix, windows[3:4])[:, 0]
    assert cosines(vectors(name, toy, prefix, windows)[:, 3], alone).min() >= 1 - 1e-5


def test_words_meet_what_is_masked_and_not_what_is_pooled():
    assert {name: way.meets_words for name, way in region_ways().items()} == {
        "blended": True,
        "masked": True,
        "pooled": False,
    }


def test_an_unknown_way_is_refused_with_those_that_there_are():
    with pytest.raises(BadPrompt, match=r"no way 'boxes' .*\.$") as caught:
        find_way("boxes")
    assert all(name in str(caught.value) for name in ("blended", "masked", "pooled"))


def test_pooled_vectors_lose_what_the_collection_shares(toy):
    prefix = toy.prefix(toy.pixels([scene(0), scene(1)]))
    masks = torch.from_numpy(window_masks(toy.grid).reshape(-1, 64))
    plain = find_way("pooled").vectors(toy, prefix, masks, None)
    mean = plain.flatten(0, 1).mean(0)
    centred = find_way("pooled").vectors(toy, prefix, masks, mean)
    expected = torch.nn.functional.normalize(plain.double() - mean.double(), dim=-1)
    assert float((centred.double() * expected).sum(-1).min()) > 0.99999
    assert RegionEncoder(toy, RegionRecipe(way="pooled")).mean([prefix]) == pytest.approx(mean.tolist(), abs=1e-6)
    assert RegionEncoder(toy, RegionRecipe(way="masked")).mean([prefix]) is None
