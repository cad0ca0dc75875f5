"""Small things in the product: an index with a space of objects, and the search that finds them there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from foir import BadIndex, BadPrompt, Index, Prompt, Searcher, Unavailable, encoders, images, masks
from foir.app.controller import Controller
from foir.app.sessions import Settings
from foir.cli.main import main
from foir.index import OBJECTS, Object
from foir.playroom import compose
from foir.search.query import Feedback, Query
from foir.small_objects import detect
from foir.small_objects.crops import DetectedObject, crop_around
from foir.small_objects.embed import embed_images, embed_objects
from foir.small_objects.mao import MODES
from index_build import maintenance, update
from index_build.cli import main as index_build
from index_build.pipeline import Plan, build
from index_build.playroom import scene_metadata
from index_build.sources import Metadata
from tests.conftest import draw, iou, scene

BOX = (20.0, 10.0, 80.0, 70.0)


class Finder:
    """Finds one thing in the middle of a picture."""

    name = "finder"

    def __call__(self, image):
        return [DetectedObject((40, 30, 100, 90))]


@pytest.fixture(autouse=True)
def finder(monkeypatch):
    monkeypatch.setattr(detect, "load", lambda encoder: Finder())


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Eight pictures, of which two have known objects, one of them with a mask."""
    root = tmp_path_factory.mktemp("small")
    outline = np.zeros((120, 160), bool)
    outline[40:60, 50:90] = True
    whole = (0, 0, 160, 120)
    metadata = {
        "00.png": Metadata(objects=(Object(-1, BOX, None, "kind", None, "a thing", None),)),
        "01.png": Metadata(objects=(Object(-1, whole, masks.encode(outline), "kind", None, "a thing", None),)),
    }
    return Plan(draw(root / "pictures", 8), root / "index", "toy", objects="mao", device="cpu", metadata=metadata)


@pytest.fixture(scope="module")
def index(plan):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "load", lambda encoder: Finder())
        build(plan)
    return Index.open(plan.out)


@pytest.fixture(scope="module")
def searcher(index):
    return Searcher(index, encoders.load("toy", device="cpu"))


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
        stored, own = np.concatenate(index.space(OBJECTS).shards)[row].astype(np.float32), made[row, row]
        apart = np.sort(np.linalg.norm(made - own, axis=-1), axis=None)
        assert np.linalg.norm(stored - own) < apart[1] / 2, row  # apart[0] is its own
    image = np.concatenate(index.space("image").shards).astype(np.float32)
    assert float(np.abs(image[0] @ np.concatenate(index.space(OBJECTS).shards)[0])) < 0.999
    assert maintenance.find_damage(index.folder) == []


def test_a_small_thing_is_asked_for_alone(searcher, toy):
    picture = searcher.open(images.read(_png(scene(0))))
    hits = searcher.search(Query(picture, Prompt.box(*BOX), mode="small", k=8))
    asked = embed_images(toy, [crop_around(scene(0), (20, 10, 80, 70))])[0].numpy()
    scores = np.concatenate(searcher.index.space(OBJECTS).shards).astype(np.float32) @ asked
    assert [item.id for item in hits.items] == np.argsort(-scores, kind="stable").tolist()
    np.testing.assert_allclose(hits.scores, np.sort(scores)[::-1], atol=1e-3)
    assert hits.heads is None and not hits.is_full_view and hits.mask.box == (20, 10, 80, 70)


def test_a_point_stands_for_the_thing_it_is_on(searcher):
    picture = searcher.open(images.read(_png(scene(0))))
    asked = []

    def segment(image):
        def outline(prompt, mask):
            asked.append(prompt.points)
            pixels = np.zeros((120, 160), bool)
            pixels[30:50, 40:70] = True
            return pixels

        return outline

    known = replace(picture, segment=segment, _outlines=[])
    hits = searcher.search(Query(known, Prompt.point(50, 40), mode="small", k=3))
    assert hits.mask.box == (40, 30, 70, 50) and asked == [((50, 40),)]
    boxed = searcher.search(Query(picture, Prompt.box(40, 30, 70, 50), mode="small", k=3))
    np.testing.assert_array_equal(hits.scores, boxed.scores)


def test_mini_outlines_what_is_clicked(tmp_path):
    """The whole way with the real model: a click on a thing of a composed scene, on an index with known objects."""
    scenes = [compose("held-out", 520 + number) for number in range(2)]
    (tmp_path / "pictures").mkdir()
    metadata = {}
    for number, composed in enumerate(scenes):
        composed.image.save(tmp_path / "pictures" / f"{number}.png")
        metadata[f"{number}.png"] = scene_metadata(composed)
    build(Plan(tmp_path / "pictures", tmp_path / "index", "mini", objects="mao", device="cpu", metadata=metadata))
    searcher = Searcher.load(tmp_path / "index", device="cpu")
    picture = searcher.open(tmp_path / "pictures" / "0.png")
    thing = max(scenes[0].objects, key=lambda thing: thing.share)
    ys, xs = np.nonzero(thing.mask)
    middle = len(ys) // 2
    hits = searcher.search(Query(picture, Prompt.point(float(xs[middle]), float(ys[middle])), mode="small", k=2))
    assert hits.mask is not None and hits.mask.pixels[ys[middle], xs[middle]]
    assert iou(np.array(thing.box, float), np.array([hits.mask.box], float))[0] > 0.5


def test_judgements_and_words_count_in_the_space_of_objects(searcher):
    picture = searcher.open(images.read(_png(scene(0))))
    plain = searcher.search(Query(picture, Prompt.box(*BOX), mode="small", k=8))
    last = plain.items[-1].id
    judged = searcher.search(Query(picture, Prompt.box(*BOX), mode="small", k=8, feedback=Feedback(liked=[last])))
    assert judged.items[0].id == last
    with pytest.raises(BadIndex, match="no text space"):
        searcher.search(Query(picture, Prompt.box(*BOX), mode="small", text="thing 3"))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({}, "point at it"),
        ({"prompt": Prompt.box(*BOX), "method": "phs"}, "leave out the method"),
        ({"prompt": Prompt.box(*BOX), "options": {"h_on": 2}}, "leave out the method"),
    ],
)
def test_what_makes_no_sense_for_small_things_is_told(searcher, how, sentence):
    picture = searcher.open(images.read(_png(scene(0))))
    with pytest.raises(BadPrompt, match=sentence):
        searcher.search(Query(picture, mode="small", **how))


def test_an_index_without_objects_says_how_to_get_them(tmp_path):
    build(Plan(draw(tmp_path / "pictures", 2), tmp_path / "index", "toy", device="cpu"))
    searcher = Searcher(Index.open(tmp_path / "index"), encoders.load("toy", device="cpu"))
    picture = searcher.open(images.read(_png(scene(0))))
    with pytest.raises(BadIndex, match="--objects mao"):
        searcher.search(Query(picture, Prompt.box(*BOX), mode="small"))


def test_an_update_keeps_the_space(plan, tmp_path):
    folder = draw(tmp_path / "pictures", 3)
    build(Plan(folder, tmp_path / "index", "toy", objects="mao", device="cpu"))
    before = np.concatenate(Index.open(tmp_path / "index").space(OBJECTS).shards)
    scene(50).save(folder / "new.png")
    update.update(tmp_path / "index", device="cpu")
    after = Index.open(tmp_path / "index")
    assert len(after) == 4 and list(after.spaces) == ["image", OBJECTS]
    np.testing.assert_array_equal(np.concatenate(after.space(OBJECTS).shards)[:3], before)


def test_an_update_notices_that_objects_are_found_in_another_way_now(plan, tmp_path, monkeypatch):
    folder = draw(tmp_path / "pictures", 3)
    build(Plan(folder, tmp_path / "index", "toy", objects="mao", device="cpu"))
    scene(50).save(folder / "new.png")
    monkeypatch.setitem(MODES, "paper", replace(MODES["paper"], steps=3))
    with pytest.raises(BadIndex, match="objects were detected by another recipe"):
        update.update(tmp_path / "index", device="cpu")
    assert len(Index.open(tmp_path / "index")) == 3


def test_the_command_lines(tmp_path, capsys):
    folder, out = draw(tmp_path / "pictures", 3), tmp_path / "index"
    args = ["build", str(folder), "--out", str(out), "--encoder", "toy", "--device", "cpu"]
    assert index_build([*args, "--objects", "boxes"]) == 1
    assert "no method 'boxes'" in capsys.readouterr().err
    assert index_build([*args, "--objects", "mao"]) == 0
    asked = ["search", str(out), str(folder / "01.png"), "--box", "40,30,100,90", "--mode", "small", "--device", "cpu"]
    capsys.readouterr()
    assert main([*asked, "--k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_encoder_that_cannot_be_pointed_makes_no_index(tmp_path):
    with pytest.raises(Unavailable, match="no CLS token"):
        build(Plan(draw(tmp_path / "pictures", 1), tmp_path / "index", "siglip-base", device="cpu"))


def test_the_page_looks_for_a_small_thing(index, searcher):
    page = Controller(index, lambda: searcher)
    session = page.start(Settings("phs", 2)).session
    plain = page.search(session, Settings("phs", 2))
    small = page.search(session, Settings("phs", 2, small_object=True))
    assert small.pointer["heat"] is None and plain.pointer["heat"] is not None
    assert "even if it is small" in small.results["note"]
    assert [hit["id"] for hit in small.results["hits"]] != [hit["id"] for hit in plain.results["hits"]]
    assert [hit["heat"] is not None for hit in page.heatmaps(small.session)["hits"]] == [True] * 7


def _png(image):
    import io

    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
