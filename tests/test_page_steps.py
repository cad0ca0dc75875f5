"""The page's steps without a browser, on a small index of the toy encoder."""

import io
import json
from dataclasses import replace

import pytest

from foir import BadImage, BadPrompt, Index, Searcher, crossmodal, encoders
from foir.index import Object
from foir.page import EXPLAINED, Page
from foir.session import Settings
from index_build.pipeline import Plan, build
from index_build.sources import Note
from tests.conftest import draw, scene

PHS = Settings("phs", 2)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    draw(root / "pictures #1", 12)
    box = Object(-1, (20.0, 10.0, 80.0, 70.0), None, "kind", None, "a thing", None)
    notes = {"00.png": Note("A scene.", objects=(box, replace(box, name="small", box=(0.0, 0.0, 9.0, 9.0))))}
    build(Plan(root / "pictures #1", root / "index #1", "toy", heads=True, device="cpu", notes=notes))
    index = Index.open(root / "index #1")
    return Page(index, lambda: Searcher(index, encoders.load("toy", device="cpu")))


def test_it_starts_with_the_most_prominent_known_thing_pointed_at(page):
    shown = page.start(PHS)
    assert shown.pointer["name"] == "A scene."
    assert [thing["name"] for thing in shown.pointer["tries"]] == ["a thing", "small"]
    assert shown.pointer["prompt"]["boxes"] == ((20.0, 10.0, 80.0, 70.0),)
    assert shown.pointer["heat"].startswith("data:image/png")
    assert len(shown.results["hits"]) == 12
    json.dumps([shown.pointer, shown.results])


def test_marks_search_and_no_marks_search_with_the_whole_picture(page):
    opened = page.choose(3, PHS).session
    pointed = page.point(opened, {"points": [[40, 40]]}, opened.token, PHS)
    assert "what you pointed at" in pointed.results["note"]
    whole = page.point(pointed.session, {"points": []}, opened.token, PHS)
    assert "Pictures like this one" in whole.results["note"]
    assert whole.results["hits"][0]["id"] == 3


def test_marks_drawn_on_a_picture_that_is_no_longer_open_are_refused(page):
    old = page.choose(3, PHS).session
    new = page.choose(4, PHS).session
    with pytest.raises(BadPrompt, match="changed"):
        page.point(new, {"points": [[40, 40]]}, old.token, PHS)
    assert page.choose(3, PHS).session.token != old.token


def test_settings_change_the_search(page):
    session = page.start(PHS).session
    scores = {
        settings: tuple(hit["score"] for hit in page.search(session, settings).results["hits"])
        for settings in (PHS, Settings("phs", 6), Settings("crop"), Settings("phs", 2, both=True))
    }
    assert len(set(scores.values())) == 4


def test_heat_is_laid_only_over_what_the_encoder_saw(page):
    session = page.start(PHS).session
    assert page.search(session, Settings("crop")).pointer["heat"] is None
    assert page.search(session, Settings("mask")).pointer["heat"] is not None


def test_the_first_results_show_where_the_thing_is(page):
    results = page.explain(page.start(PHS).session)
    heats = [hit["heat"] is not None for hit in results["hits"]]
    assert heats == [True] * EXPLAINED + [False] * 4


def test_a_damaged_thumbnail_costs_its_own_card_only(page):
    session = page.start(PHS).session
    item = session.hits.items[1]
    path = page.index.thumb(item)
    data = path.read_bytes()
    page._patches.cache_clear()
    try:
        path.write_bytes(b"damaged")
        results = page.explain(session)
    finally:
        path.write_bytes(data)
    assert results["hits"][1]["url"] is None
    assert results["hits"][1]["heat"] is None
    assert results["hits"][0]["heat"] is not None


def test_addresses_of_thumbnails_are_quoted(page):
    url = page.start(PHS).results["hits"][0]["url"]
    assert "#" not in url
    assert "%23" in url


def test_uploads_are_read_by_the_door_and_large_ones_refused(page):
    out = io.BytesIO()
    scene(5).save(out, "PNG")
    shown = page.upload(out.getvalue(), PHS)
    assert shown.pointer["name"] == "your picture"
    assert shown.pointer["tries"] == ()
    with pytest.raises(BadImage, match="empty"):
        page.upload(b"", PHS)
    huge = io.BytesIO()
    scene(0).resize((6000, 5000)).save(huge, "PNG", compress_level=1)
    with pytest.raises(BadImage, match="limit is 24 million"):
        page.upload(huge.getvalue(), PHS)


def test_unknown_pictures_and_odd_marks_are_refused(page):
    opened = page.start(PHS).session
    for marks in ({"points": [["a", 1]]}, {"boxes": [[1, 2]]}, {"points": [[1e9, 5]]}):
        with pytest.raises(BadPrompt):
            page.point(opened, marks, opened.token, PHS)


@pytest.fixture(scope="module")
def speaking(tmp_path_factory):
    root = tmp_path_factory.mktemp("speaking")
    build(Plan(draw(root / "pictures", 12), root / "index", "toy-words", device="cpu"))
    index = Index.open(root / "index")
    return Page(index, lambda: Searcher(index, encoders.load("toy-words", device="cpu")))


def test_words_search_alone_until_they_are_joined_with_the_picture(speaking):
    opened = speaking.choose(3, PHS).session
    marked = speaking.point(opened, {"boxes": [[10, 10, 90, 90]]}, opened.token, replace(PHS, text="thing 5"))
    assert marked.results["note"] == "Pictures with what you pointed at, best first."
    said = speaking.say(marked.session, replace(PHS, text=" thing 5 "))
    assert said.results["note"] == "Pictures of “thing 5”, best first."
    assert said.results["hits"][0]["name"] == "05.png"
    assert said.pointer["prompt"]["boxes"] == ((10.0, 10.0, 90.0, 90.0),)  # the mark stays where it was
    assert said.pointer["heat"] is None
    assert speaking.explain(said.session) == speaking.results(said.session)
    both = speaking.search(said.session, replace(PHS, text="thing 5", minus="thing 7", together=True))
    assert both.results["note"] == "Pictures with what you pointed at and “thing 5”, without “thing 7”, best first."
    assert all(hit["score"] is None for hit in both.results["hits"])
    assert both.results["hits"][-1]["name"] == "07.png"
    json.dumps([said.results, both.results, both.pointer])


def test_empty_words_go_back_to_what_is_pointed_at(speaking):
    opened = speaking.choose(3, PHS).session
    marked = speaking.point(opened, {"points": [[40, 40]]}, opened.token, PHS)
    said = speaking.say(marked.session, replace(PHS, text="thing 5")).session
    back = speaking.say(said, replace(PHS, text="  "))
    assert back.results == marked.results


def test_a_mark_after_words_is_a_search_by_the_mark(speaking):
    opened = speaking.choose(3, PHS).session
    said = speaking.say(opened, replace(PHS, text="thing 5")).session
    marked = speaking.point(said, {"points": [[40, 40]]}, said.token, replace(PHS, text="thing 5"))
    assert "what you pointed at" in marked.results["note"] and "thing 5" not in marked.results["note"]


def test_choosing_a_picture_after_words_searches_with_the_picture(speaking):
    opened = speaking.choose(3, PHS).session
    speaking.say(opened, replace(PHS, text="thing 5"))
    assert speaking.choose(4, replace(PHS, text="thing 5")).results["hits"][0]["id"] == 4


def test_the_open_picture_is_described_where_the_model_can(page, speaking):
    opened = speaking.choose(3, PHS).session
    assert speaking.describe(opened, 1) == {"token": opened.token, "whole": "picture of 1", "pointed": ""}
    marked = speaking.point(opened, {"points": [[40, 40]]}, opened.token, PHS).session
    assert speaking.point_out(marked, 2) == {"token": opened.token, "pointed": "picture of 1, 1 pulled by 2"}
    assert speaking.point_out(marked, 0)["pointed"] == ""
    silent = page.choose(3, PHS).session
    assert page.describe(silent, 1) == {"token": silent.token, "whole": "", "pointed": ""}


def test_judged_results_rank_again_and_can_be_taken_back(speaking):
    opened = speaking.choose(3, PHS)
    first = speaking.point(opened.session, {"points": [[40, 40]]}, opened.session.token, PHS)
    wrong = first.results["hits"][1]["id"]
    refined = speaking.refine(first.session, {"liked": [7], "disliked": [wrong]}, PHS)
    assert refined.results["note"] == "Pictures with what you pointed at, as you judged them, best first."
    assert refined.results["opinion"] == {"liked": (7,), "disliked": (wrong,)} and refined.results["rounds"] == 1
    order = [hit["id"] for hit in refined.results["hits"]]
    assert order[-1] == wrong and order.index(7) < 3
    assert all(hit["score"] is None for hit in refined.results["hits"])
    again = speaking.refine(refined.session, {"liked": [7, 5], "disliked": [wrong], "fresh": False}, PHS)
    assert again.results["rounds"] == 2
    back = speaking.refine(again.session, {"undo": True}, PHS)
    assert [hit["id"] for hit in back.results["hits"]] == order
    assert speaking.refine(back.session, {"undo": True}, PHS).results["hits"] == first.results["hits"]
    marked = speaking.point(refined.session, {"points": [[9, 9]]}, opened.session.token, PHS)
    assert marked.results["rounds"] == 0  # another wish


def test_only_what_was_not_shown_can_be_asked_for(speaking, monkeypatch):
    monkeypatch.setattr("foir.page.RESULTS", 4)
    first = speaking.choose(3, PHS)
    shown = {hit["id"] for hit in first.results["hits"]}
    fresh = speaking.refine(first.session, {"liked": [3], "disliked": [], "fresh": True}, PHS)
    second = {hit["id"] for hit in fresh.results["hits"]}
    assert not shown & second
    third = speaking.refine(fresh.session, {"liked": [3], "disliked": [], "fresh": True}, PHS)
    assert not (shown | second) & {hit["id"] for hit in third.results["hits"]}
    everything = speaking.refine(third.session, {"liked": [3], "disliked": []}, PHS)
    assert everything.results["hits"][0]["id"] == 3


@pytest.mark.parametrize(
    "said", [["liked"], {"liked": "7"}, {"liked": [True]}, {"liked": ["7"]}, {"disliked": list(range(1001))}]
)
def test_judgements_that_are_none_are_refused(speaking, said):
    opened = speaking.choose(3, PHS).session
    with pytest.raises(BadPrompt, match="two lists"):
        speaking.refine(opened, said, PHS)


def test_the_map_shows_every_picture_once_and_groups_lead_to_pictures(speaking):
    shown = speaking.map()
    assert sorted(point[3] for point in shown["points"]) == list(range(len(speaking.index)))
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y, _, _ in shown["points"])
    assert sum(group["size"] for group in shown["groups"]) == len(speaking.index)
    for number, group in enumerate(shown["groups"]):
        assert group["name"]
        assert [point[2] for point in shown["points"] if point[3] == group["id"]] == [number]
    assert speaking.map() == shown
    json.dumps(shown)


def test_the_tail_can_be_cut_off(speaking):
    whole = speaking.choose(3, PHS)
    scores = [hit["score"] for hit in whole.results["hits"]]
    cut = speaking.choose(3, replace(PHS, least=scores[2]))
    assert cut.results["hits"] == whole.results["hits"][:3]


def test_near_copies_are_folded_together(speaking, monkeypatch):
    monkeypatch.setattr("foir.page.clustering.copies", lambda vectors: [0, 0, *range(2, len(vectors))])
    shown = speaking.choose(3, PHS)
    first, second = (item.file for item in shown.session.hits.items[:2])
    assert (shown.results["hits"][0]["name"], shown.results["hits"][0]["copies"]) == (first, [second])
    assert len(shown.results["hits"]) == len(shown.session.hits.items) - 1
    assert len(speaking.explain(shown.session)["hits"]) == len(shown.results["hits"])


def test_another_model_can_write_the_captions(page):
    """An index without words, and a writer beside it."""
    page._searcher.result().writer = crossmodal.load("toy-words", device="cpu")
    try:
        opened = page.choose(3, PHS).session
        assert page.describe(opened, 1)["whole"] == "picture of 1"
        marked = page.point(opened, {"points": [[40, 40]]}, opened.token, PHS).session
        assert page.point_out(marked, 2)["pointed"] == "picture of 1, 1 pulled by 2"
    finally:
        page._searcher.result().writer = None


def test_a_writer_is_loaded_by_name(page):
    searcher = Searcher.load(page.index, device="cpu", captions="toy-words")
    assert searcher.writer is not None
    assert searcher.caption(searcher.open(page.index.picture(page.index.item(0)))) == "picture of 1"
