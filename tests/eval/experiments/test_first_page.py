"""The first page: which things are drawn, and hits counted by hand."""

import pytest

from eval.experiments import first_page, registry
from eval.experiments.specs import RunContext
from foir import Query, Searcher
from foir.app.collections import SAMPLE
from foir.images import Photo
from foir.index import Index
from foir.playroom import compose
from foir.prompts import Prompt
from foir.search.query import CONTEXT
from index_build.playroom import build_gallery


def test_the_same_things_are_drawn_again_and_enough_scenes_show_each():
    index = Index.open(SAMPLE)
    drawn, count = first_page.draw_things(index, first_page.DRAWN)
    assert drawn == first_page.draw_things(Index.open(SAMPLE), first_page.DRAWN)[0]
    assert drawn[:7] == first_page.draw_things(index, 7)[0] and len(drawn) == 60 < count
    scenes = [{thing.instance for thing in index.objects(item.id)} for item in index.items()]
    assert all(sum(thing.instance in toys for toys in scenes) >= 11 for thing in drawn)


def test_hits_are_results_that_hold_the_thing_beside_the_query_picture(toy, tmp_path, monkeypatch):
    for name, value in (("MIN_SCENES", 2), ("K", 3), ("SAMPLE", tmp_path / "nothing")):
        monkeypatch.setattr(first_page, name, value)
    built = []

    def build(folder, encoder):
        built.append(build_gallery(folder, 6, encoder))

    monkeypatch.setattr(first_page, "build_gallery", build)
    experiment, context = registry()["first-page"], RunContext(results=tmp_path, limit=2)
    cells = experiment.measure(None, toy, context)
    index = first_page.sample_index(tmp_path / "sample", toy)
    assert len(built) == 1
    searcher, drawn = Searcher(index, toy), first_page.draw_things(index, 2)[0]
    numbers = [first_page.scene_number(index.item(index.row(thing.item))) for thing in drawn]
    images = [searcher.open(Photo(compose("gallery", number).image)) for number in numbers]
    for name, weight in (("no regions", 1.0), ("default", CONTEXT)):
        per_picture: dict = {}
        for thing, image in zip(drawn, images, strict=True):
            found = searcher.search(Query(image, Prompt.box(*thing.box), k=6, context=weight)).items
            others = [item.id for item in found if item.id != thing.item][:3]
            hits = sum(thing.category in {other.category for other in index.objects(id)} for id in others)
            per_picture.setdefault(thing.item, []).append(hits)
        (cell,) = [c for c in cells if c.metric == "hits@3, its category" and c.options["row"] == name]
        assert cell.value == pytest.approx(sum(sum(own) / len(own) for own in per_picture.values()) / len(per_picture))
