"""MaO as a way of making regions: one vector of all objects of a picture, asked with the crop of one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from foir import BadIndex, Index, Prompt, Searcher, Unavailable, encoders, masks
from foir.cli.main import main
from foir.index import Object
from foir.regions.recipe import RegionRecipe
from foir.search.query import Query
from foir.small_objects import detect
from foir.small_objects.crops import DetectedObject, crop_around
from foir.small_objects.embed import embed_images, embed_objects
from foir.small_objects.mao import MODES
from index_build import maintenance, update
from index_build.cli import main as index_build
from index_build.pipeline import Plan, build
from index_build.sources import Metadata
from tests.conftest import draw, scene

BOX = (20.0, 10.0, 80.0, 70.0)
MAO = RegionRecipe.choose(1, "mao", "whole")


class Finder:
    """Finds one thing in the middle of a picture."""

    name = "finder"

    def __call__(self, image):
        return [DetectedObject((40, 30, 100, 90))]


@pytest.fixture(autouse=True)
def finder(monkeypatch):
    monkeypatch.setattr(detect, "load", lambda encoder: Finder())


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Eight pictures, of which two have known objects, one of them with a mask."""
    root = tmp_path_factory.mktemp("small")
    outline = np.zeros((120, 160), bool)
    outline[40:60, 50:90] = True
    whole = (0, 0, 160, 120)
    metadata = {
        "00.png": Metadata(objects=(Object(-1, BOX, None, "kind", None, "a thing", None),)),
        "01.png": Metadata(objects=(Object(-1, whole, masks.encode(outline), "kind", None, "a thing", None),)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "load", lambda encoder: Finder())
        pictures = draw(root / "pictures", 8)
        build(Plan(pictures, root / "index", "toy", regions=MAO, device="cpu", metadata=metadata))
    return Index.open(root / "index")


@pytest.fixture(scope="module")
def searcher(index):
    return Searcher(index, encoders.load("toy", device="cpu"))


def vectors(index):
    """The one vector of each picture."""
    assert all(np.array_equal(starts, np.arange(len(starts))) for starts in index.regions.starts)
    return np.concatenate(index.regions.vectors).astype(np.float32)


def expected(toy, known):
    made = embed_objects(toy, known)
    return torch.cat(made).numpy()


def test_known_objects_stand_for_their_picture_and_what_is_found_for_the_others(index, toy):
    """Eighty steps make much of the rounding of a batch, but nothing half as far as another picture or object is."""
    outline = np.zeros((120, 160), bool)
    outline[40:60, 50:90] = True
    ways = [[DetectedObject(BOX)], [DetectedObject((50, 40, 90, 60), outline)], Finder()(None), []]
    made = np.stack([[expected(toy, [(scene(row), things)])[0] for things in ways] for row in range(3)])
    for row in range(3):
        stored, own = vectors(index)[row], made[row, row]
        apart = np.sort(np.linalg.norm(made - own, axis=-1), axis=None)
        assert np.linalg.norm(stored - own) < apart[1] / 2, row  # apart[0] is its own
    image = np.concatenate(index.space("image").shards).astype(np.float32)
    assert float(np.abs(image[0] @ vectors(index)[0])) < 0.999
    assert maintenance.find_damage(index.folder) == []


def test_a_small_thing_is_asked_for_by_its_crop(searcher, toy):
    picture = searcher.open(searcher.index.picture(searcher.index.item(0)))
    hits = searcher.search(Query(picture, Prompt.box(*BOX), context=0, k=8))
    asked = embed_images(toy, [crop_around(scene(0), (20, 10, 80, 70))])[0].numpy()
    scores = vectors(searcher.index) @ asked
    assert [item.id for item in hits.items] == np.argsort(-scores, kind="stable").tolist()
    np.testing.assert_allclose(hits.similarities, np.sort(scores)[::-1], atol=1e-3)
    assert hits.mask.box == (20, 10, 80, 70)
    assert all(region.box == pytest.approx((0, 0, 160, 120)) for (region,) in hits.regions)


def test_an_update_keeps_the_vectors_of_the_others(tmp_path):
    folder = draw(tmp_path / "pictures", 3)
    build(Plan(folder, tmp_path / "index", "toy", regions=MAO, device="cpu"))
    before = vectors(Index.open(tmp_path / "index"))
    scene(50).save(folder / "new.png")
    update.update(tmp_path / "index", device="cpu")
    after = Index.open(tmp_path / "index")
    assert len(after) == 4 and list(after.spaces) == ["image"]
    np.testing.assert_array_equal(vectors(after)[:3], before)


def test_an_update_notices_that_objects_count_in_another_way_now(tmp_path, monkeypatch):
    folder = draw(tmp_path / "pictures", 3)
    build(Plan(folder, tmp_path / "index", "toy", regions=MAO, device="cpu"))
    scene(50).save(folder / "new.png")
    monkeypatch.setitem(MODES, "paper", replace(MODES["paper"], steps=3))
    with pytest.raises(BadIndex, match="with other settings of MaO: build it again"):
        update.update(tmp_path / "index", device="cpu")
    assert len(Index.open(tmp_path / "index")) == 3


def test_the_command_lines(tmp_path, capsys):
    folder, out = draw(tmp_path / "pictures", 3), tmp_path / "index"
    args = ["build", str(folder), "--out", str(out), "--encoder", "toy", "--device", "cpu"]
    assert index_build([*args, "--region-way", "boxes"]) == 1
    assert "no way 'boxes'" in capsys.readouterr().err
    assert index_build([*args, "--region-way", "mao"]) == 0
    asked = ["search", str(out), str(folder / "01.png"), "--box", "40,30,100,90", "--context", "0", "--device", "cpu"]
    capsys.readouterr()
    assert main([*asked, "--k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_encoder_that_cannot_be_pointed_makes_no_index(tmp_path):
    with pytest.raises(Unavailable, match="no CLS token"):
        build(Plan(draw(tmp_path / "pictures", 1), tmp_path / "index", "siglip-base", device="cpu"))
