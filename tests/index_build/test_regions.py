"""Regions in an index: with every picture its own, through every change, copy and kill."""

import json
import shutil

import numpy as np
import pytest

from foir import BadIndex, Index, images
from foir.index import remote
from foir.regions.encoder import RegionEncoder
from foir.regions.recipe import RegionRecipe
from index_build.cli import main
from index_build.encoding import LoadedEncoders
from index_build.maintenance import find_damage, gc
from index_build.pipeline import Plan, build
from index_build.publish import publish
from index_build.update import add, remove, update
from tests import standin_hub
from tests.conftest import adopt, scene
from tests.index_build.conftest import file_of, interrupt, make, refused, rewrite, tree

hub_server = standin_hub.hub
pytestmark = pytest.mark.usefixtures("small_and_apart")


@pytest.fixture(scope="module")
def fresh(toy):
    """The regions of a file, made here by the recipe of an index."""

    def made(path, recipe=None):
        prefix = toy.prefix(toy.pixels([images.read(path).image]))
        return RegionEncoder(toy, recipe or RegionRecipe()).encode(prefix)[0]

    return made


def matched(out, fresh):
    """Opens an index; every picture has the regions that a build would make of its file now, and no other's."""
    index = Index.open(out)
    regions = index.regions
    assert regions is not None and index.root is not None
    recipe = RegionRecipe.from_json(regions.recipe)
    assert [len(starts) - 1 for starts in regions.starts] == [len(shard) for shard in index.space().shards]
    for row, item in enumerate(index.items()):
        vectors, boxes = regions.of_row(row)
        expected = fresh(index.root / item.file, recipe)
        assert 1 <= len(vectors) <= recipe.limit
        np.testing.assert_array_equal(boxes, expected.boxes)
        assert (vectors.astype(np.float32) * expected.vectors).sum(1).min() >= 0.999
    assert list(find_damage(out)) == []
    return index


def test_a_build_makes_regions_by_the_default_recipe(out, fresh):
    index = matched(out, fresh)
    recipe = RegionRecipe.from_json(index.regions.recipe, 48)
    assert recipe.mean is not None and recipe.model_copy(update={"mean": None}) == RegionRecipe()
    assert len(index.regions.vectors) == 3
    assert {name.partition("-")[2] for name in index.manifest.regions.shards} == {"regions.safetensors"}


def test_new_changed_renamed_and_missing_files(out, pictures, fresh):
    scene(20).save(pictures / "new.png")
    scene(21, (90, 70)).save(pictures / "a" / "03.png")
    (pictures / "a" / "01.png").rename(pictures / "z.png")
    (pictures / "b" / "08.png").unlink()
    update(out)
    assert len(matched(out, fresh)) == 10
    before = tree(out)
    update(out)
    assert tree(out) == before


def test_added_and_removed_pictures_and_what_gc_leaves(out, pictures, fresh):
    for number in range(3):
        scene(20 + number).save(pictures / f"new{number}.png")
    add(out, [pictures / "new0.png", pictures / "new2.png"])
    remove(out, ["a/05.png", "b"])
    index = matched(out, fresh)
    assert {item.file for item in index.items()} == {"a/01.png", "a/03.png", "a/07.png", "a/09.png"} | {
        "new0.png",
        "new2.png",
    }
    assert gc(out) > 0
    assert {path.name for path in out.glob("*-regions.safetensors")} == set(index.manifest.regions.shards)
    matched(out, fresh)


def test_other_recipes_are_kept_by_updates(out, pictures, fresh):
    recipe = RegionRecipe(way="pooled", limit=3)
    make(pictures, out, regions=recipe)
    built = Index.open(out).regions
    assert built is not None
    scene(20).save(pictures / "new.png")
    update(out)
    assert matched(out, fresh).regions.recipe == built.recipe
    assert RegionRecipe.from_json(built.recipe).model_copy(update={"mean": None}) == recipe


def test_tiles_are_made_again_by_an_update(out, pictures, toy):
    make(pictures, out, regions=RegionRecipe(views="tiles"))
    scene(2).save(pictures / "twice.png")  # the picture of b/02.png
    update(out)
    index = Index.open(out)
    assert index.regions is not None
    rows = {item.file: index.regions.of_row(row) for row, item in enumerate(index.items())}
    np.testing.assert_array_equal(rows["b/02.png"][1], rows["twice.png"][1])
    assert (rows["b/02.png"][0].astype(float) * rows["twice.png"][0]).sum(1).min() > 0.999


def test_an_index_without_regions_stays_so_until_it_is_built_again(out, pictures, fresh):
    make(pictures, out, regions=None)
    assert Index.open(out).regions is None and not list(out.glob("*-regions.safetensors"))
    scene(20).save(pictures / "new.png")
    update(out)
    assert Index.open(out).regions is None and len(Index.open(out)) == 11
    make(pictures, out)
    assert len(matched(out, fresh)) == 11


@pytest.mark.parametrize("recipe", [None, RegionRecipe(way="masked", limit=2)])
def test_encoders_that_are_given_make_the_regions_that_the_index_has(out, pictures, fresh, toy, recipe):
    scene(20).save(pictures / "new.png")
    update(out, encoders=LoadedEncoders({"image": toy}, recipe))
    matched(out, fresh)


def test_a_recipe_that_is_not_known_is_told_by_an_update(out, pictures):
    rewrite(out, lambda manifest: manifest["regions"].update(recipe='{"way": "magic"}'))
    adopt(out, pictures)
    scene(20).save(pictures / "new.png")
    with pytest.raises(BadIndex) as error:
        update(out)
    refused(error, "magic")


def test_a_published_index_is_pulled_with_its_regions(out, hub_server, tmp_path):
    publish(out, "tester/index")
    remote.pull("tester/index", tmp_path / "copy")
    index, copy = Index.open(out), Index.open(tmp_path / "copy")
    assert copy.regions is not None and index.regions is not None and copy.regions.recipe == index.regions.recipe
    for row in range(len(index)):
        for one, other in zip(index.regions.of_row(row), copy.regions.of_row(row), strict=True):
            np.testing.assert_array_equal(one, other)
    assert list(find_damage(tmp_path / "copy")) == []


def test_a_killed_build_takes_over_shards_with_the_same_regions_only(folder, tmp_path, monkeypatch, fresh):
    interrupt(folder, tmp_path / "same", monkeypatch)
    shutil.copytree(tmp_path / "same", tmp_path / "other")
    assert len(list((tmp_path / "same").glob("*-regions.safetensors"))) == 2
    assert make(folder, tmp_path / "same", heads=True).resumed == 2
    make(folder, tmp_path / "unbroken", heads=True)
    assert tree(tmp_path / "same") == tree(tmp_path / "unbroken")
    matched(tmp_path / "same", fresh)
    assert make(folder, tmp_path / "other", heads=True, regions=RegionRecipe(limit=8)).resumed == 0
    assert RegionRecipe.from_json(matched(tmp_path / "other", fresh).regions.recipe).limit == 8


def test_a_shard_whose_regions_are_damaged_is_made_again(folder, tmp_path, monkeypatch, fresh):
    interrupt(folder, tmp_path / "out", monkeypatch)
    path = sorted((tmp_path / "out").glob("*-regions.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert make(folder, tmp_path / "out", heads=True).resumed == 1
    matched(tmp_path / "out", fresh)


@pytest.mark.parametrize("how", ["missing", "flipped"])
def test_damaged_regions_are_found_when_opening_and_by_verify(out, how, capsys):
    path = file_of(out, "regions")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink() if how == "missing" else path.write_bytes(data)
    with pytest.raises(BadIndex, match=path.name):
        Index.open(out)
    assert main(["verify", str(out)]) == 1
    assert path.name in capsys.readouterr().err


def test_the_command_chooses_how_many_and_which(folder, tmp_path, capsys):
    def built(*options):
        out = tmp_path / "index"
        assert main(["build", str(folder), "--out", str(out), "--encoder", "toy", "--device", "cpu", *options]) == 0
        return Index.open(out).regions

    assert json.loads(built().recipe)["limit"] == 16
    assert built("--regions", "0") is None
    some = built("--regions", "4", "--region-way", "masked", "--region-views", "tiles")
    assert max(np.diff(some.starts[0])) <= 4
    assert RegionRecipe.from_json(some.recipe) == RegionRecipe(way="masked", views="tiles", limit=4)
    capsys.readouterr()
    for options, said in ((("--regions", "300"), "300"), (("--region-views", "all"), "all")):
        argv = ["build", str(folder), "--out", str(tmp_path / "no"), "--encoder", "toy", *options]
        assert main(argv) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_an_image_that_cannot_be_read_has_no_regions(mixed, tmp_path, fresh):
    build(Plan(mixed, tmp_path / "index", "toy", device="cpu"))
    assert len(matched(tmp_path / "index", fresh)) == 10
