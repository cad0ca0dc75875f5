"""The page's steps without a browser, on a small index of the toy encoder."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from foir import BadImage, BadPrompt, Index, Prompt, Searcher, Unavailable, encoders, image_text, images
from foir.app.api import Api, Comparison, MarkedImage
from foir.app.controller import EXPLAINED, Controller
from foir.app.session_store import session_bytes
from foir.app.sessions import Settings
from foir.index import Object
from foir.search.query import CONTEXT, METHOD, Query
from index_build.pipeline import Plan, build
from index_build.sources import Metadata
from tests.conftest import draw, scene, with_members

PHS = Settings("phs", 2)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    draw(root / "pictures #1", 12)
    box = Object(-1, (20.0, 10.0, 80.0, 70.0), None, "kind", None, "a thing", None)
    notes = {"00.png": Metadata("A scene.", objects=(box, replace(box, name="small", box=(0.0, 0.0, 9.0, 9.0))))}
    build(Plan(root / "pictures #1", root / "index #1", "toy", heads=True, device="cpu", metadata=notes))
    index = Index.open(root / "index #1")
    return Controller(index, lambda: Searcher(index, encoders.load("toy", device="cpu")), "few")


def test_it_starts_with_the_most_prominent_known_thing_pointed_at(page):
    shown = page.start(PHS)
    assert shown.pointer["name"] == "A scene."
    assert [thing["name"] for thing in shown.pointer["suggestions"]] == ["a thing", "small"]
    assert shown.pointer["prompt"]["boxes"] == ((20.0, 10.0, 80.0, 70.0),)
    assert shown.pointer["heat"].startswith("data:image/png")
    assert len(shown.results["hits"]) == 11  # all but the open one
    json.dumps([shown.pointer, shown.results])


def test_nothing_of_others_is_decoded_in_the_process_of_the_page(page, monkeypatch):
    monkeypatch.setattr(images, "decode", lambda *args: pytest.fail("decoded in this process"))
    session = page.upload(page.index.picture(page.index.item(3)).read_bytes(), PHS).session
    session = page.point(session, {"boxes": [[20, 10, 80, 70]]}, session.token, PHS).session
    assert page.heatmaps(session)["hits"]
    assert page.choose(4, PHS).session.item_id == 4
    collections: Any = SimpleNamespace(controller=lambda key: page)
    assert Api(collections)._open(MarkedImage(item=5), "")[1].photo.size == (160, 120)


def test_the_image_sent_to_browsers_says_nothing_that_the_file_said_in_a_comment(page):
    out = io.BytesIO()
    scene(3).save(out, "JPEG", comment=b"taken at home")
    jpeg, _ = page.upload(out.getvalue(), PHS).session.preview
    assert jpeg.startswith(b"\xff\xd8") and b"home" not in jpeg


def test_marks_search_and_no_marks_search_with_the_whole_picture(page):
    opened = page.choose(3, PHS).session
    pointed = page.point(opened, {"points": [[40, 40]]}, opened.token, PHS)
    assert "the object you marked" in pointed.results["note"]
    whole = page.point(pointed.session, {"points": []}, opened.token, PHS)
    assert "Images similar to this one" in whole.results["note"]
    found = [hit["id"] for hit in whole.results["hits"]]
    assert len(found) == 11 and 3 not in found  # it is no result of its own


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
        for settings in (
            PHS,
            replace(PHS, context=1.0),
            Settings("phs", 6, context=1.0),
            Settings("crop", context=1.0),
            Settings("phs", 2, query_db=True, context=1.0),
        )
    }
    assert len(set(scores.values())) == 5


def test_heat_is_laid_only_over_what_the_encoder_saw(page):
    session = page.start(PHS).session
    assert page.search(session, Settings("crop")).pointer["heat"] is None
    assert page.search(session, Settings("mask")).pointer["heat"] is not None


def test_the_first_results_show_where_the_thing_is(page):
    results = page.heatmaps(page.start(PHS).session)
    heats = [hit["heat"] is not None for hit in results["hits"]]
    assert heats == [True] * EXPLAINED + [False] * 3


def test_a_damaged_thumbnail_costs_its_own_card_only(page):
    session = page.start(PHS).session
    item = session.results.items[1]
    path = page.index.thumb(item)
    data = path.read_bytes()
    page._patches._features.clear()
    try:
        path.write_bytes(b"damaged")
        results = page.heatmaps(session)
    finally:
        path.write_bytes(data)
    assert results["hits"][1]["heat"] is None
    assert results["hits"][0]["heat"] is not None


def test_thumbnails_are_addressed_by_id_and_no_path_of_the_machine_is_told(page):
    shown = page.start(PHS)
    assert [hit["url"] for hit in shown.results["hits"]] == [f"thumb/few/{hit['id']}" for hit in shown.results["hits"]]
    assert str(page.index.folder) not in json.dumps([shown.pointer, shown.results])


def test_uploads_are_read_by_the_door_and_large_ones_refused(page):
    out = io.BytesIO()
    scene(5).save(out, "PNG")
    shown = page.upload(out.getvalue(), PHS)
    assert shown.pointer["name"] == "your image"
    assert shown.pointer["suggestions"] == ()
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
    return Controller(index, lambda: Searcher(index, encoders.load("toy-words", device="cpu")))


def test_words_search_alone_until_they_are_joined_with_the_picture(speaking):
    opened = speaking.choose(3, PHS).session
    marked = speaking.point(opened, {"boxes": [[10, 10, 90, 90]]}, opened.token, replace(PHS, text="thing 5"))
    assert marked.results["note"] == "Images with the object you marked, best first."
    said = speaking.search_text(marked.session, replace(PHS, text=" thing 5 "))
    assert said.results["note"] == "Images of “thing 5”, best first."
    assert said.results["hits"][0]["name"] == "05.png"
    assert said.pointer["prompt"]["boxes"] == ((10.0, 10.0, 90.0, 90.0),)  # the mark stays where it was
    assert said.pointer["heat"] is None
    assert speaking.heatmaps(said.session) == speaking.views.results(said.session)
    both = speaking.search(said.session, replace(PHS, text="thing 5", negative_text="thing 7", combine_text=True))
    assert both.results["note"] == "Images with the object you marked and “thing 5”, without “thing 7”, best first."
    assert all(hit["score"] is None for hit in both.results["hits"])
    assert both.results["hits"][-1]["name"] == "07.png"
    json.dumps([said.results, both.results, both.pointer])


def test_empty_words_go_back_to_what_is_pointed_at(speaking):
    opened = speaking.choose(3, PHS).session
    marked = speaking.point(opened, {"points": [[40, 40]]}, opened.token, PHS)
    said = speaking.search_text(marked.session, replace(PHS, text="thing 5")).session
    back = speaking.search_text(said, replace(PHS, text="  "))
    assert back.results == marked.results


def test_a_mark_after_words_is_a_search_by_the_mark(speaking):
    opened = speaking.choose(3, PHS).session
    said = speaking.search_text(opened, replace(PHS, text="thing 5")).session
    marked = speaking.point(said, {"points": [[40, 40]]}, said.token, replace(PHS, text="thing 5"))
    assert "the object you marked" in marked.results["note"] and "thing 5" not in marked.results["note"]


def test_choosing_a_picture_after_words_searches_with_the_picture(speaking):
    opened = speaking.choose(3, PHS).session
    said = speaking.search_text(opened, replace(PHS, text="thing 3"))
    assert said.results["hits"][0]["id"] == 3  # words can lead to the open one
    chosen = speaking.choose(4, replace(PHS, text="thing 5"))
    assert chosen.session.texts == {} and 4 not in [hit["id"] for hit in chosen.results["hits"]]


def test_the_open_picture_is_described_where_the_model_can(page, speaking):
    opened = speaking.choose(3, PHS).session
    assert speaking.captions(opened, 1) == {"whole": "picture of 1", "marked": ""}
    marked = speaking.point(opened, {"points": [[40, 40]]}, opened.token, PHS).session
    assert speaking.captions(marked, 2)["marked"] == "picture of 1, 1 pulled by 2"
    assert speaking.captions(marked, 0) == {"whole": "picture of 1", "marked": ""}
    silent = page.choose(3, PHS).session
    assert page.captions(silent, 1) == {"whole": "", "marked": ""}


def test_judged_results_rank_again_and_can_be_taken_back(speaking):
    opened = speaking.choose(3, PHS)
    first = speaking.point(opened.session, {"points": [[40, 40]]}, opened.session.token, PHS)
    wrong = first.results["hits"][1]["id"]
    refined = speaking.refine(first.session, {"liked": [7], "disliked": [wrong]}, PHS)
    assert refined.results["note"] == "Images with the object you marked, ranked with your feedback, best first."
    assert refined.results["feedback"] == {"liked": (7,), "disliked": (wrong,)} and refined.results["rounds"] == 1
    order = [hit["id"] for hit in refined.results["hits"]]
    assert order[-1] == wrong and order.index(7) == [hit["id"] for hit in first.results["hits"]].index(7)
    assert all(hit["score"] is None for hit in refined.results["hits"])
    again = speaking.refine(refined.session, {"liked": [7, 5], "disliked": [wrong], "fresh": False}, PHS)
    assert again.results["rounds"] == 2
    back = speaking.refine(again.session, {"undo": True}, PHS)
    assert [hit["id"] for hit in back.results["hits"]] == order
    assert speaking.refine(back.session, {"undo": True}, PHS).results["hits"] == first.results["hits"]
    marked = speaking.point(refined.session, {"points": [[9, 9]]}, opened.session.token, PHS)
    assert marked.results["rounds"] == 0  # another wish


def test_only_what_was_not_shown_can_be_asked_for(speaking, monkeypatch):
    monkeypatch.setattr("foir.app.controller.RESULTS", 4)
    first = speaking.choose(3, PHS)
    shown = {hit["id"] for hit in first.results["hits"]}
    fresh = speaking.refine(first.session, {"liked": [3], "disliked": [], "fresh": True}, PHS)
    second = {hit["id"] for hit in fresh.results["hits"]}
    assert not shown & second
    third = speaking.refine(fresh.session, {"liked": [3], "disliked": [], "fresh": True}, PHS)
    assert not (shown | second) & {hit["id"] for hit in third.results["hits"]}
    everything = speaking.refine(third.session, {"liked": [3], "disliked": []}, PHS)
    assert shown & {hit["id"] for hit in everything.results["hits"]}


@pytest.mark.parametrize(
    "said", [["liked"], {"liked": "7"}, {"liked": [True]}, {"liked": ["7"]}, {"disliked": list(range(1001))}]
)
def test_judgements_that_are_none_are_refused(speaking, said):
    opened = speaking.choose(3, PHS).session
    with pytest.raises(BadPrompt, match="two lists"):
        speaking.refine(opened, said, PHS)


def test_the_map_shows_every_picture_once_and_groups_lead_to_pictures(speaking):
    shown = speaking.views.map()
    assert sorted(point[3] for point in shown["points"]) == list(range(len(speaking.index)))
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y, _, _ in shown["points"])
    assert sum(group["size"] for group in shown["groups"]) == len(speaking.index)
    for number, group in enumerate(shown["groups"]):
        assert group["name"]
        assert [point[2] for point in shown["points"] if point[3] == group["id"]] == [number]
    assert speaking.views.map() == shown
    json.dumps(shown)


def test_the_tail_can_be_cut_off(speaking):
    whole = speaking.choose(3, PHS)
    scores = [hit["score"] for hit in whole.results["hits"]]
    cut = speaking.choose(3, replace(PHS, min_score=scores[2]))
    assert cut.results["hits"] == whole.results["hits"][:3]


def test_near_copies_are_folded_together(speaking, monkeypatch):
    monkeypatch.setattr("foir.app.views.clustering.near_duplicates", lambda vectors: [0, 0, *range(2, len(vectors))])
    shown = speaking.choose(3, PHS)
    first, second = (item.file for item in shown.session.results.items[:2])
    assert (shown.results["hits"][0]["name"], shown.results["hits"][0]["copies"]) == (first, [second])
    assert len(shown.results["hits"]) == len(shown.session.results.items) - 1
    assert len(speaking.heatmaps(shown.session)["hits"]) == len(shown.results["hits"])


def test_another_model_can_write_the_captions(page):
    """An index without words, and a writer beside it."""
    page._searcher.result().captioner = image_text.load("toy-words", device="cpu")
    try:
        opened = page.choose(3, PHS).session
        assert page.captions(opened, 1)["whole"] == "picture of 1"
        marked = page.point(opened, {"points": [[40, 40]]}, opened.token, PHS).session
        assert page.captions(marked, 2)["marked"] == "picture of 1, 1 pulled by 2"
        blind = with_members(page._searcher.result().captioner, crop=lambda size: (slice(0, 120), slice(60, 160)))
        page._searcher.result().captioner = blind
        assert page.captions(marked, 2) == {"whole": "picture of 1", "marked": ""}
    finally:
        page._searcher.result().captioner = None


def test_a_writer_is_loaded_by_name(page):
    searcher = Searcher.load(page.index, device="cpu", captions="toy-words")
    assert searcher.captioner is not None
    assert searcher.caption(searcher.open(page.index.picture(page.index.item(0)))) == "picture of 1"


def test_one_line_says_what_was_understood(page):
    opened = page.choose(3, PHS)
    assert opened.pointer["summary"] == ""  # nothing is pointed at
    session = opened.session
    box = page.point(session, {"boxes": [[0, 0, 80, 120]]}, session.token, PHS)  # half of a picture of 160 x 120
    assert box.pointer["summary"].startswith("A box: 50 % of the image. ")
    assert "The 2 of 6 attention heads that attend to it most are used." in box.pointer["summary"]
    marks = {"points": [[9, 9], [40, 40]], "strokes": [{"path": [[5, 5], [9, 9]], "width": 3}]}
    several = page.point(session, marks, session.token, Settings("crop"))
    assert several.pointer["summary"].startswith("2 points and a stroke: ")
    assert "heads" not in several.pointer["summary"]


def test_the_strip_shows_every_head_and_which_speak(page):
    session = page.start(PHS).session
    shown = page.heads(session)
    assert [head["on"] for head in shown["heads"]] == [head in session.results.heads for head in range(6)]
    assert len({head["heat"] for head in shown["heads"]}) == 6 and not shown["fixed"]
    plain = page.search(session, Settings("attention_mask")).session
    assert page.heads(plain)["fixed"] and all(head["on"] for head in page.heads(plain)["heads"])
    assert page.heads(page.search(session, Settings("crop")).session)["heads"] == []
    assert page.heads(page.choose(3, PHS).session)["heads"] == []
    json.dumps(shown)


def switched(page, session, head, settings=PHS):
    return page.switch_head(session, head, session.token, settings)


def test_a_head_switched_by_hand_stays_so_until_something_else_is_pointed_at(page):
    first = page.start(PHS)
    on, off = first.session.results.heads[0], next(i for i in range(6) if i not in first.session.results.heads)
    without = switched(page, first.session, on)
    assert on not in without.session.results.heads and len(without.session.results.heads) == 2
    both = switched(page, without.session, off) if off not in without.session.results.heads else without
    assert on not in both.session.results.heads and off in both.session.results.heads
    assert "attention heads are used" in both.pointer["summary"]
    assert [head["forced"] for head in page.heads(both.session)["heads"]].count(True) == len(both.session.forced_heads)
    back = switched(page, switched(page, without.session, on).session, on)
    assert on not in back.session.results.heads  # left to the method, then switched off again
    assert switched(page, without.session, on).session.results.heads == first.session.results.heads
    marked = page.point(both.session, {"boxes": [[20, 10, 80, 70]]}, both.session.token, PHS)
    assert not marked.session.forced_heads


@pytest.mark.parametrize("head", [6, -1, "1", None, True, 1.0])
def test_heads_that_are_none_are_refused(page, head):
    with pytest.raises(BadPrompt, match="no such head"):
        switched(page, page.start(PHS).session, head)


def test_heads_are_switched_only_where_they_are_chosen(page):
    session = page.search(page.start(PHS).session, Settings("mask")).session
    with pytest.raises(BadPrompt, match="image changed"):
        page.switch_head(session, 0, "another", Settings("mask"))
    with pytest.raises(BadPrompt, match="Heads can be switched"):
        switched(page, session, 0, Settings("mask"))


def test_the_last_head_cannot_be_switched_off(page):
    session = page.start(Settings("phs", 1)).session
    for head in range(5):
        session = replace(session, forced_heads={**session.forced_heads, head: False})
    session = page.search(session, Settings("phs", 1)).session
    assert session.results.heads == (5,)
    with pytest.raises(BadPrompt, match="leave one on"):
        switched(page, session, 5, Settings("phs", 1))


def test_another_way_of_looking_stands_beside(page):
    session = page.start(PHS).session
    beside = page.compare(session, PHS, "attention_mask|phs")
    alone = page.search(session, Settings("attention_mask|phs", 2, context=1.0)).results
    assert beside["hits"] == alone["hits"] and beside["plain"]
    assert beside["title"] == "Attention mask, then head selection"
    with pytest.raises(BadPrompt, match="no method"):
        page.compare(session, PHS, "nothing")
    assert page.compare(page.choose(3, PHS).session, PHS, "crop") is None  # nothing is pointed at


def session_hits(page, session):
    return page.views.results(session, [])["hits"]


def test_results_outline_what_was_found(page):
    """In percent of the picture: [x, y, width, height]."""
    shown = page.start(PHS)
    for hit, regions in zip(shown.results["hits"], shown.session.results.regions, strict=True):
        ((x0, y0, x1, y1),) = (region.box for region in regions)
        edges = [x0 / 1.6, y0 / 1.2, (x1 - x0) / 1.6, (y1 - y0) / 1.2]
        assert hit["regions"] == [pytest.approx(edges, abs=0.01)] and hit["size"] == [160, 120]
        assert hit["score"] == pytest.approx(regions[0].score)
    session = shown.session
    two = page.point(session, {"boxes": [[20, 10, 80, 70], [90, 50, 150, 110]]}, session.token, PHS)
    assert [len(hit["regions"]) for hit in two.results["hits"]] == [2] * 11
    plain = page.search(session, replace(PHS, context=1.0)).results["hits"]
    assert [hit["regions"] for hit in plain] == [[]] * 11


def test_settings_weigh_the_scene_as_queries_do_by_default(page):
    assert Settings().context == Query(text="a").context == Comparison().context == CONTEXT
    assert Settings().method == METHOD
    with pytest.raises(BadPrompt, match="context must be 0 to 1"):
        page.search(page.start(PHS).session, replace(PHS, context=1.5))


def test_why_a_result_is_one(page, speaking):
    session = page.start(PHS).session
    item, score = session.results.items[2], session.results.similarities[2]
    told = page.explain(session, item.id)
    assert told["id"] == item.id and told["heat"].startswith("data:image/png")
    assert f"Similarity of the outlined region: {100 * score:.1f} of 100." in told["lines"]
    assert told["regions"] == session_hits(page, session)[2]["regions"] and len(told["regions"]) == 1
    whole = page.search(session, replace(PHS, context=1.0)).session
    told_whole = page.explain(whole, item.id)
    assert told_whole["regions"] == [] and any(line.startswith("Similarity: ") for line in told_whole["lines"])
    named = [line for line in told["lines"] if line.startswith("Most similar in the selected heads")]
    assert len(named) == 1 and all(f"head {head + 1} (" in named[0] for head in session.results.heads)
    assert page.explain(session, item.id)["nonce"] != told["nonce"]
    for unknown in (99, "1", None):
        with pytest.raises(BadPrompt, match="no longer among"):
            page.explain(session, unknown)
    said = speaking.search_text(speaking.choose(3, PHS).session, replace(PHS, text="thing 5")).session
    assert speaking.explain(said, 5)["heat"] is None


def test_of_the_picture_itself_every_kept_head_says_that_it_is_the_same(page):
    session = page.upload(page.index.picture(page.index.item(3)).read_bytes(), PHS).session
    session = page.point(session, {"boxes": [[20, 10, 80, 70]]}, session.token, Settings("phs", 2)).session
    lines = page.explain(session, 3)["lines"]
    assert lines[-1].count("(100)") == 2


def test_a_click_can_mean_the_whole_thing(page):
    session = page.choose(3, PHS).session
    asked = {"points": [[80, 60]]}
    window = page.point(session, asked, session.token, PHS)
    thing = page.point(session, asked, session.token, replace(PHS, outline=True))
    assert window.pointer["outline"] is None and thing.pointer["outline"].startswith("data:image/png")
    assert "extended to the whole object" in thing.pointer["summary"]
    expected = session.image.outline(
        Prompt.point(80, 60), page.searcher.patch_mask(session.image, Prompt.point(80, 60))
    )
    assert (thing.session.results.mask.pixels == expected).all()
    assert thing.pointer["prompt"]["points"] == ((80.0, 60.0),)  # the mark stays where it was
    box = page.point(session, {"boxes": [[20, 10, 80, 70]]}, session.token, replace(PHS, outline=True))
    assert box.pointer["outline"] is None  # a box says itself how far it goes
    assert "outline" not in box.pointer["summary"]


def test_why_speaks_of_what_was_asked_for(page, speaking):
    said = speaking.search_text(speaking.choose(3, PHS).session, replace(PHS, text="thing 5")).session
    lines = speaking.explain(said, 5)["lines"]
    assert any("thing 5" in line for line in lines) and not any("marked" in line for line in lines)
    judged = page.refine(page.choose(3, PHS).session, {"liked": [7], "disliked": []}, PHS).session
    assert page.explain(judged, 7)["lines"] == ["The ranking uses your feedback."]


def test_words_may_not_be_endless(speaking):
    opened = speaking.choose(3, PHS).session
    for settings in (replace(PHS, text="x" * 301), replace(PHS, negative_text="x" * 301)):
        with pytest.raises(BadPrompt, match="at most 300"):
            speaking.search_text(opened, settings)


def test_a_load_that_failed_is_tried_again(page):
    loads: list[None] = []

    def load():
        loads.append(None)
        if len(loads) == 1:
            raise Unavailable("The weights are not reachable.")
        return page.searcher

    shared = Controller(page.index, load)
    with pytest.raises(Unavailable):
        shared.start(PHS)
    assert shared.start(PHS).results["hits"] and shared.searcher is page.searcher and len(loads) == 2


def test_a_session_keeps_no_more_pixels_than_are_needed(page, monkeypatch):
    out = io.BytesIO()
    picture = scene(3).convert("RGBA")
    picture.putalpha(200)
    picture.save(out, "PNG")
    whole = page.upload(out.getvalue(), PHS).session
    assert whole.image.photo.size == (160, 120) and whole.image.photo.alpha is None
    monkeypatch.setattr("foir.app.pictures.SESSION_PIXELS", 4800)
    shown = page.upload(out.getvalue(), PHS)
    assert shown.session.image.photo.size == (80, 60) == (shown.pointer["width"], shown.pointer["height"])
    assert page.start(PHS).pointer["prompt"]["boxes"] == ((10.0, 5.0, 40.0, 35.0),)
    kept = session_bytes(shown.session), session_bytes(whole)
    assert kept[0] < kept[1] < 2_000_000
