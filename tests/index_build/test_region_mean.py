"""The mean that an index's regions are centred by."""

from typing import Any

import numpy as np
import pytest

from foir import Index
from foir.regions.recipe import RegionRecipe
from index_build import region_mean
from index_build.encoding import LoadedEncoders
from index_build.pipeline import SHARD_SIZE, Plan, build
from index_build.region_mean import centre
from index_build.sources.folder import FolderSource
from tests.conftest import draw, scene


def means(toy, numbers):
    """The mean of the pooled windows of some made pictures."""
    encoders: Any = LoadedEncoders({"image": toy}, RegionRecipe())
    return encoders.regions.mean([toy.prefix(toy.pixels([scene(number)])) for number in numbers])


def chunks_of(folder, out):
    return FolderSource(folder, out, {}).chunks(SHARD_SIZE)


@pytest.mark.parametrize(("sample", "numbers"), [(16, range(6)), (3, (0, 2, 4)), (1, (0,))])
def test_it_is_that_of_pictures_evenly_over_the_first_chunk(toy, tmp_path, monkeypatch, sample, numbers):
    monkeypatch.setattr(region_mean, "SAMPLE", sample)
    build(Plan(draw(tmp_path / "pictures", 6), tmp_path / "index", "toy", device="cpu"))
    index = Index.open(tmp_path / "index")
    assert index.regions is not None
    stored: Any = RegionRecipe.from_json(index.regions.recipe, 48).mean
    np.testing.assert_allclose(stored, means(toy, numbers), atol=1e-5)


def test_a_picture_that_cannot_be_read_is_left_out_of_it(toy, tmp_path):
    (draw(tmp_path / "pictures", 3) / "01.png").write_bytes(b"junk")
    encoders = LoadedEncoders({"image": toy}, RegionRecipe())
    done: Any = centre(encoders, tmp_path / "out", chunks_of(tmp_path / "pictures", tmp_path / "out"))
    np.testing.assert_allclose(done.regions.recipe.mean, means(toy, (0, 2)), atol=1e-5)


def test_a_resumed_build_keeps_the_mean_of_the_killed_one_and_another_recipe_does_not(toy, tmp_path):
    folder, out = draw(tmp_path / "pictures", 3), tmp_path / "out"
    encoders = LoadedEncoders({"image": toy}, RegionRecipe())
    first = centre(encoders, out, chunks_of(folder, out)).region_recipe
    scene(40).save(folder / "00.png")
    assert centre(encoders, out, chunks_of(folder, out)).region_recipe == first
    other: Any = centre(LoadedEncoders({"image": toy}, RegionRecipe(limit=4)), out, chunks_of(folder, out))
    assert other.regions.recipe.mean != RegionRecipe.from_json(first).mean


@pytest.mark.parametrize("recipe", [None, RegionRecipe(way="masked"), RegionRecipe(mean=(0.5,) * 48)])
def test_nothing_is_taken_where_nothing_is_missing(toy, tmp_path, recipe):
    folder = draw(tmp_path / "pictures", 2)
    done = centre(LoadedEncoders({"image": toy}, recipe), tmp_path / "out", chunks_of(folder, tmp_path / "out"))
    assert done.region_recipe == ("" if recipe is None else recipe.to_json())
