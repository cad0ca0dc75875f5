"""What a visitor does, with mouse, finger and keyboard."""

import re

import numpy as np
import pytest
from PIL import Image

from foir.playroom import compose
from index_build.pipeline import Plan, build
from tests.conftest import draw, scene
from tests.e2e.conftest import serve

MARKED = "the object you marked"
SIMILAR = "document.querySelector('#results .note').textContent.includes('Images similar to this one')"


def note(page):
    return page.inner_text("#results .note")


def is_about(page, wanted):
    """The note says how many results likely show this."""
    return re.search(rf"likely (to )?shows? {re.escape(wanted)}[,.]", note(page)) is not None


def names(page):
    return page.evaluate("[...document.querySelectorAll('.hit .name')].map(node => node.title)")


def canvas_box(page):
    page.locator(".stage canvas").scroll_into_view_if_needed()
    return page.locator(".stage canvas").bounding_box()


def new_results(page, act):
    """Do something and wait until other results are there."""
    text = "document.querySelector('#results .note').innerText + document.querySelector('#results .grid').innerText"
    before = page.evaluate(text)
    act()
    page.wait_for_function(f"before => {text} !== before", arg=before, timeout=30_000)


def slide(page, name, value, arrived):
    """Set a slider until `arrived()`: Gradio can lose a release right after a fold opened, or during a search."""
    slider = page.get_by_role("slider", name=name)
    for _ in range(10):
        slider.fill(value)
        slider.dispatch_event("pointerup")
        page.wait_for_timeout(1500)
        if arrived():
            return
    raise AssertionError(f"{name} = {value} changed nothing")


def drag(page, fractions):
    area = canvas_box(page)
    (x, y), *rest = [(area["x"] + fx * area["width"], area["y"] + fy * area["height"]) for fx, fy in fractions]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def test_the_page_opens_with_something_found_and_something_to_try(visit):
    page = visit()
    assert MARKED in note(page)
    assert len(names(page)) == 24
    assert page.locator(".suggestions button").count() >= 2
    assert page.locator(".samples button").count() == 6
    page.wait_for_function("document.querySelector('.hit img.photo').naturalWidth > 100")
    assert page.locator(".stage .heat").is_visible() and page.locator(".hit .heat").count() == 0
    page.get_by_text("Search options", exact=True).click()
    page.get_by_label("Show heat maps on the first results").check()
    page.wait_for_selector(".hit .heat")
    assert page.locator(".hit .heat").count() == 8


def test_a_box_with_the_mouse_finds_scenes_with_the_same_thing(visit):
    page = visit()
    thing = max(compose("gallery", 0).objects, key=lambda t: t.share)
    x0, y0, x1, y1 = np.array(thing.box) / (640, 480, 640, 480)
    page.click("[data-do=clear]")
    page.wait_for_function(
        "document.querySelector('#results .note').textContent.includes('Images similar to this one')"
    )
    new_results(page, lambda: drag(page, [(x0, y0), (x1, y1)]))
    assert MARKED in note(page)
    assert thing.sprite.name in names(page)[0].lower()


def test_each_suggested_thing_can_be_tried(visit):
    page = visit()
    new_results(page, lambda: page.locator(".suggestions button").nth(1).click())
    assert MARKED in note(page)


def test_point_and_brush_search_too_and_undo_takes_back(visit):
    page = visit()
    page.click("[data-tool=point]")
    area = canvas_box(page)
    new_results(page, lambda: page.mouse.click(area["x"] + area["width"] * 0.9, area["y"] + area["height"] * 0.3))
    pointed = names(page)
    page.click("[data-tool=brush]")
    new_results(page, lambda: drag(page, [(0.15, 0.6), (0.2, 0.65), (0.25, 0.6)]))
    assert MARKED in note(page)
    new_results(page, lambda: page.click("[data-do=undo]"))
    assert names(page) == pointed


def test_clear_searches_with_the_whole_picture(visit):
    page = visit()
    page.click("[data-do=clear]")
    page.wait_for_function(
        "document.querySelector('#results .note').textContent.includes('Images similar to this one')"
    )
    assert not page.locator(".stage .heat").is_visible()


def test_keyboard_alone_draws_a_box(visit):
    page = visit()
    page.focus(".stage canvas")
    page.keyboard.press("Escape")
    page.wait_for_function(
        "document.querySelector('#results .note').textContent.includes('Images similar to this one')"
    )
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    new_results(page, lambda: page.keyboard.press("Space"))
    assert MARKED in note(page)


def test_search_with_this_one_makes_a_result_the_query(visit):
    page = visit()
    wanted = names(page)[3]
    new_results(page, lambda: page.locator(".hit .again").nth(3).click())
    assert page.get_attribute(".stage img.photo", "alt") == wanted
    assert wanted not in names(page)  # it is no result of its own


def test_a_sample_can_be_chosen(visit):
    page = visit()
    wanted = page.locator(".samples button").nth(2).get_attribute("title")
    new_results(page, lambda: page.locator(".samples button").nth(2).click())
    assert page.get_attribute(".stage img.photo", "alt") == wanted


def test_an_upload_is_searched_and_can_be_pointed_at(visit, tmp_path):
    page = visit()
    scene(3).save(tmp_path / "mine.png")
    new_results(page, lambda: page.set_input_files("#upload input, input[type=file]", tmp_path / "mine.png"))
    assert page.get_attribute(".stage img.photo", "alt") == "your image"
    assert page.locator(".suggestions").is_hidden()
    new_results(page, lambda: drag(page, [(0.3, 0.3), (0.7, 0.7)]))
    assert MARKED in note(page)


@pytest.mark.parametrize("kind", ["text", "empty", "truncated"])
def test_a_bad_upload_gets_one_sentence_and_loses_nothing(visit, tmp_path, kind):
    page = visit()
    before = names(page)
    path = tmp_path / "bad.jpg"
    Image.new("RGB", (300, 300), "red").save(path)
    path.write_bytes({"text": b"not a picture", "empty": b"", "truncated": path.read_bytes()[:400]}[kind])
    page.set_input_files("input[type=file]", path)
    toast = page.wait_for_selector("[data-testid=toast-body], .toast-body", timeout=20_000)
    assert re.search(r"upload (is|is not|claims)", toast.inner_text())
    assert "Traceback" not in page.inner_text("body")
    assert names(page) == before


def test_fine_tuning_is_folded_away_and_works(visit):
    page = visit()
    assert not page.get_by_label("Method").is_visible()
    page.get_by_text("Search options").click()
    page.get_by_label("Method").click()
    new_results(page, lambda: page.get_by_role("option", name="Crop").click())
    assert MARKED in note(page)


@pytest.mark.parametrize("width", [390, 768])
def test_narrow_pages_have_no_sideways_scroll_and_take_a_finger(visit, width):
    page = visit(width, 844, touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    area = canvas_box(page)
    page.click("[data-tool=point]")
    new_results(page, lambda: page.touchscreen.tap(area["x"] + area["width"] / 2, area["y"] + area["height"] * 0.7))
    assert MARKED in note(page)
    assert area["width"] > 0.85 * width or width > 640
    card = page.evaluate("document.querySelector('.hit').getBoundingClientRect().width")  # heat maps redraw the cards
    assert 0.15 * width < card < width / 2


def test_two_visitors_do_not_see_each_others_pictures(visit, tmp_path):
    one, other = visit(), visit()
    scene(5).save(tmp_path / "mine.png")
    new_results(one, lambda: one.set_input_files("input[type=file]", tmp_path / "mine.png"))
    new_results(other, lambda: other.locator(".suggestions button").nth(1).click())
    assert one.get_attribute(".stage img.photo", "alt") == "your image"
    assert other.get_attribute(".stage img.photo", "alt") != "your image"


def test_names_from_strangers_are_text_and_never_markup(browser, tmp_path):
    evil = "<img src=x onerror=window.hacked=1>${window.hacked=1}`{{value}}.png"
    (tmp_path / "pictures").mkdir()
    scene(0).save(tmp_path / "pictures" / evil)
    scene(1).save(tmp_path / "pictures" / "plain.png")
    build(Plan(tmp_path / "pictures", tmp_path / "index", "mini", device="cpu"))
    with serve(tmp_path, tmp_path / "index") as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector(".hit img.photo", timeout=60_000)
        assert page.get_attribute(".stage img.photo", "alt") == evil and names(page) == ["plain.png"]
        new_results(page, lambda: page.locator(".hit .again").click())
        assert names(page) == [evil]
        assert page.locator(".hit .name", has_text="<img src=x").count() == 1
        assert page.evaluate("window.hacked") is None
        page.close()


def test_words_find_pictures_and_join_what_is_pointed_at(visit):
    page = visit()
    page.fill("#text textarea, #text input", "guitar")
    new_results(page, lambda: page.keyboard.press("Enter"))
    assert is_about(page, "“guitar”")
    alone = names(page)
    assert sum("guitar" in name.lower() for name in alone[:10]) >= 3
    new_results(page, lambda: page.check("#combine_text input"))
    assert is_about(page, "the object you marked and “guitar”")
    assert names(page) != alone
    new_results(page, lambda: page.uncheck("#combine_text input"))
    assert is_about(page, "“guitar”")
    new_results(page, lambda: page.locator(".suggestions button").nth(1).click())
    assert MARKED in note(page)
    page.wait_for_function("document.querySelector('#text textarea, #text input').value === ''")  # they do not count
    page.fill("#text textarea, #text input", "umbrella")
    new_results(page, lambda: page.get_by_role("button", name="Search", exact=True).click())
    assert is_about(page, "“umbrella”")


def test_the_sentences_follow_the_picture_and_what_is_pointed_at(visit):
    page = visit()
    page.get_by_text("Captions", exact=True).click()
    page.wait_for_function("document.querySelectorAll('.captions span')[1].textContent.startsWith('Marked object: ')")
    whole, pointed = (page.locator(".captions span").nth(i).inner_text() for i in (0, 1))
    assert whole.startswith("Image: ")
    sentences = {pointed}
    for place in range(1, page.locator(".suggestions button").count()):
        new_results(page, lambda place=place: page.locator(".suggestions button").nth(place).click())
        page.wait_for_timeout(1500)
        sentences.add(page.locator(".captions span").nth(1).inner_text())
        assert page.locator(".captions span").nth(0).inner_text() == whole
    assert len(sentences) > 1  # one of them may be that of the whole image, if it speaks of that object
    page.get_by_text("Search options").click()
    steered = page.locator(".captions span").nth(1)
    slide(page, "Caption focus on the marked object", "0", lambda: steered.inner_text() == "")
    page.locator(".samples button").nth(2).click()
    page.wait_for_function("whole => document.querySelector('.captions span').textContent !== whole", arg=whole)


def test_words_that_look_like_markup_stay_words(visit):
    page = visit()
    page.fill("#text textarea, #text input", "<img src=x onerror=alert(1)> ${1+1}")
    new_results(page, lambda: page.keyboard.press("Enter"))
    assert is_about(page, "“<img src=x onerror=alert(1)> ${1+1}”")
    assert page.locator("#results .note img").count() == 0


def test_results_are_judged_and_ranked_again(visit):
    page = visit()
    assert page.locator(".judged").is_hidden()
    first = names(page)
    page.locator(".hit .disliked").nth(0).click()
    page.locator(".hit .liked").nth(4).click()
    assert page.inner_text(".judged span") == "1 relevant, 1 irrelevant"
    new_results(page, lambda: page.get_by_role("button", name="Search with feedback").click())
    assert note(page) == "Images with the object you marked, ranked with your feedback, best first."
    assert first[4] in names(page)[3:6]  # it stays, but near copies share a card
    assert names(page).index(first[4]) < (names(page) + [first[0]]).index(first[0])
    assert page.locator(".hit .liked[aria-pressed=true]").count() == 1
    page.get_by_label("only images not shown yet").check()
    before = names(page)
    new_results(page, lambda: page.get_by_role("button", name="Search with feedback").click())
    assert not set(before) & set(names(page)) or len(set(before) & set(names(page))) < 3  # names can repeat
    new_results(page, lambda: page.get_by_role("button", name="Undo", exact=True).last.click())
    assert names(page) == before
    new_results(page, lambda: page.locator(".suggestions button").nth(1).click())
    assert page.locator(".judged").is_hidden()


def test_the_map_leads_to_pictures(visit):
    page = visit()
    page.get_by_text("Map of the collection").click()
    page.wait_for_selector(".groups button")
    assert page.locator(".groups button").count() == 12
    ink = "(() => { const c = document.querySelector('.map canvas'); const d = c.getContext('2d')"
    page.wait_for_function(f"{ink}.getImageData(0, 0, c.width, c.height).data; return d.some((v) => v > 0) }})()")
    group = page.locator(".groups button").nth(3)
    new_results(page, group.click)
    assert "Images similar to this one" in note(page)
    page.wait_for_timeout(600)  # the picture came back into view
    page.locator(".map canvas").scroll_into_view_if_needed()
    area = page.locator(".map canvas").bounding_box()
    new_results(page, lambda: page.mouse.click(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2))
    assert "Images similar to this one" in note(page)


def test_results_outline_what_was_found_unless_the_scene_alone_counts(browser, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        compose("held-out", 530 + number).image.save(tmp_path / "pictures" / f"{number}.png")
    build(Plan(tmp_path / "pictures", tmp_path / "index", "mini", device="cpu"))
    with serve(tmp_path, tmp_path / "index") as address:
        page = browser.new_page()
        page.goto(address)
        stage = page.wait_for_selector(".stage").bounding_box()
        assert min(stage["width"], stage["height"]) > 100  # it keeps its place while the model loads
        page.wait_for_selector(".hit img.photo", timeout=120_000)
        new_results(page, lambda: drag(page, [(0.3, 0.3), (0.6, 0.7)]))
        assert MARKED in note(page) and len(names(page)) == 2
        outlines = page.locator(".hit .regions rect:not(.below)")
        assert outlines.count() == 2
        frame, box = page.locator(".hit .frame").first.bounding_box(), outlines.first.bounding_box()
        assert frame["x"] - 3 <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 3
        assert frame["y"] - 3 <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"] + 3
        page.get_by_text("Search options", exact=True).click()
        scene = "Weight of the scene around the object"
        slide(page, scene, "1", lambda: page.locator(".hit .regions").count() == 0)
        assert len(names(page)) == 2
        slide(page, scene, "0", lambda: outlines.count() == 2)
        page.locator(".hit .why").first.click()
        page.get_by_role("dialog").wait_for()
        assert "Similarity of the outlined region" in page.get_by_role("dialog").inner_text()
        page.keyboard.press("Escape")
        page.close()


def test_one_line_says_what_was_understood(visit):
    page = visit()
    line = page.inner_text(".summary")
    assert re.fullmatch(r"A box: \d+ % of the image\. The 5 of 12 attention heads .*", line)
    page.click("[data-do=clear]")
    page.wait_for_function("document.querySelector('.summary').textContent === ''")


def test_heads_are_shown_and_switched_by_hand(visit):
    page = visit()
    page.get_by_text("Attention heads", exact=True).click()
    page.wait_for_selector(".heads button")
    on = ".heads button[aria-pressed=true]"
    assert page.locator(".heads button").count() == 12 and page.locator(on).count() == 5
    head = page.locator(on).first.get_attribute("aria-label")
    new_results(page, page.locator(on).first.click)
    switched = page.get_by_role("button", name=f"{head}, switched by hand")
    switched.wait_for()
    assert switched.get_attribute("aria-pressed") == "false" and page.locator(on).count() == 5
    assert "5 of 12 attention heads are used" in page.inner_text(".summary")
    new_results(page, switched.click)
    page.get_by_role("button", name=head, exact=True).wait_for()
    new_results(page, lambda: page.locator(".suggestions button").nth(1).click())
    page.wait_for_function("document.querySelectorAll('.heads button.forced').length === 0")


def test_every_result_says_why(visit):
    page = visit()
    why = page.locator(".hit .why").nth(10)
    why.click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    text = dialog.inner_text()
    assert names(page)[10] in text and "Most similar in the selected heads" in text
    page.wait_for_function("document.querySelector('dialog .photo').naturalWidth > 100")
    assert dialog.locator(".heat").is_visible()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.classList.contains('why')")
    why.press("Enter")  # by keyboard, and the same one again
    dialog.wait_for()
    dialog.get_by_role("button", name="Close").click()
    dialog.wait_for(state="hidden")
    wanted = names(page)[2]
    page.locator(".hit .frame").nth(2).click(position={"x": 20, "y": 60})  # the picture itself does the same
    dialog.wait_for()
    assert wanted in dialog.inner_text()
    new_results(page, lambda: dialog.get_by_role("button", name="Find similar images").click())
    dialog.wait_for(state="hidden")
    assert page.get_attribute(".stage img.photo", "alt") == wanted and wanted not in names(page)


def test_two_ways_of_looking_side_by_side(visit):
    page = visit()
    page.get_by_text("Search options").click()
    page.get_by_label("Compare with").click()
    page.get_by_role("option", name="Crop").click()
    page.wait_for_selector("#comparison .hit img.photo")
    assert page.inner_text("#comparison .note").startswith("Crop: Images with the object you marked")
    assert page.locator("#comparison .hit").count() >= 20 and page.locator("#comparison .liked").count() == 0
    left, right = (page.locator(part).bounding_box() for part in ("#results", "#comparison"))
    assert left["x"] + left["width"] <= right["x"] + 1 and abs(left["y"] - right["y"]) < 5
    page.locator("#results .liked").nth(1).click()
    new_results(page, lambda: page.get_by_role("button", name="Search with feedback").click())
    assert page.locator("#comparison .judged").is_hidden()
    before = page.inner_text("#comparison .grid")
    new_results(page, lambda: page.locator(".suggestions button").nth(1).click())
    page.wait_for_function("before => document.querySelector('#comparison .grid').innerText !== before", arg=before)
    page.get_by_label("Compare with").click()
    page.get_by_role("option", name="none").click()
    page.wait_for_selector("#comparison", state="hidden")


def test_a_click_can_mean_the_whole_thing(visit):
    page = visit()
    page.get_by_text("Search options").click()
    page.get_by_label("A click selects the whole object").check()
    page.click("[data-tool=point]")
    thing = max(compose("gallery", 0).objects, key=lambda t: t.share)
    x0, y0, x1, y1 = np.array(thing.box) / (640, 480, 640, 480)
    area = canvas_box(page)
    x, y = area["x"] + area["width"] * (x0 + x1) / 2, area["y"] + area["height"] * (y0 + y1) / 2
    new_results(page, lambda: page.mouse.click(x, y))
    page.wait_for_function("document.querySelector('.summary').textContent.includes('extended to the whole object')")
    assert page.locator(".stage .outline").is_visible()


def test_of_two_strokes_in_haste_the_second_is_searched(visit):
    page = visit()
    page.locator(".suggestions button").nth(1).click()
    page.locator(".suggestions button").nth(2).click()
    page.wait_for_timeout(4000)
    hasty = names(page)
    new_results(page, lambda: page.locator(".suggestions button").nth(0).click())
    new_results(page, lambda: page.locator(".suggestions button").nth(2).click())
    assert names(page) == hasty


def test_a_folder_becomes_a_collection_beside_the_sample(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    draw(tmp_path / "my <b>pictures", 5)
    with serve(tmp_path) as address:
        page = browser.new_page()
        errors = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(address)
        page.wait_for_selector(".hit .why", timeout=60_000)
        assert "600 images" in page.inner_text(".about-collection")
        page.get_by_text("Map of the collection").click()
        page.wait_for_selector(".groups button")
        page.get_by_role("button", name="Add a collection").click()
        page.fill("#source textarea, #source input", str(tmp_path / "none"))
        page.click("#add")
        assert "There is no folder" in page.wait_for_selector(".toast-body").inner_text()
        page.fill("#source textarea, #source input", str(tmp_path / "my <b>pictures"))
        page.click("#add")
        page.wait_for_selector(".job progress")
        page.get_by_role("button", name="Stop").click()
        page.wait_for_function("document.querySelector('.job').textContent.includes('to resume')")
        assert "600 images" in page.inner_text(".about-collection")
        page.click("#add")
        page.wait_for_function("document.querySelector('.about-collection').textContent.startsWith('5 images')")
        page.wait_for_function("document.querySelectorAll('#results .hit').length === 4")
        assert sorted(names(page)) == [f"0{number}.png" for number in range(1, 5)]
        assert page.locator(".job").is_hidden() and not page.locator(".groups button").first.is_visible()
        new_results(page, lambda: drag(page, [(0.3, 0.3), (0.7, 0.7)]))
        assert MARKED in note(page)
        page.click("#collection input")
        new_results(page, lambda: page.get_by_role("option", name="Sample").click())
        page.wait_for_function("document.querySelector('.about-collection').textContent.startsWith('600 images')")
        assert MARKED in note(page) and len(names(page)) == 24
        assert errors == []
        page.close()
        page = browser.new_page()  # who comes later finds both
        page.goto(address)
        page.wait_for_selector(".hit .why", timeout=60_000)
        page.click("#collection input")
        new_results(page, lambda: page.get_by_role("option", name="my <b>pictures").click())
        assert len(names(page)) == 4
        page.close()


def test_on_a_phone_a_button_leads_to_the_results_and_a_new_picture_comes_back_into_view(visit):
    page = visit(390, 844, touch=True)
    jump = page.locator("#results .jump")
    jump.wait_for()
    assert jump.inner_text() == "24 results ↓"
    jump.tap()
    jump.wait_for(state="hidden")
    page.wait_for_timeout(600)
    assert page.locator("#results .note").bounding_box()["y"] < 200
    page.locator(".hit .again").nth(3).tap()
    page.wait_for_function("document.querySelector('.stage').getBoundingClientRect().top >= 0")


def test_a_swipe_that_meant_to_scroll_marks_nothing(visit):
    page = visit(390, 844, touch=True)
    before = note(page), names(page)
    drag(page, [(0.5, 0.2), (0.502, 0.9)])
    page.wait_for_timeout(800)
    assert (note(page), names(page)) == before
    page.click("[data-tool=point]")
    assert page.evaluate("getComputedStyle(document.querySelector('.stage canvas')).touchAction") == "pan-y"


def test_the_kept_answer_shows_at_once_and_marks_drawn_before_the_model_is_loaded_are_searched(browser, tmp_path):
    with serve(tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector(".hit img.photo")
        kept = names(page)
        assert MARKED in note(page) and len(kept) == 24
        assert page.locator(".hit .why").count() == 0  # nothing is offered that needs the model
        drag(page, [(0.55, 0.1), (0.9, 0.45)])
        page.locator(".hit .why").first.wait_for(timeout=60_000)
        for _ in range(40):
            if names(page) != kept:
                break
            page.wait_for_timeout(250)
        assert names(page) != kept
        assert "A box" in page.inner_text(".summary")
        page.close()


def test_an_image_chosen_before_the_model_is_loaded_wins_over_a_mark_drawn_before_it(browser, tmp_path):
    with serve(tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector(".hit img.photo")
        drag(page, [(0.55, 0.1), (0.9, 0.45)])
        page.locator("#results .again").first.click()
        page.locator(".hit .why").first.wait_for(timeout=60_000)
        page.wait_for_function(SIMILAR, timeout=60_000)
        page.wait_for_timeout(1000)
        assert page.locator(".toast-body").count() == 0
        page.close()
