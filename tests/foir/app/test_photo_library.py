"""A folder of dated photos on the page: narrowed, opened, kept up to date."""

import os
import time

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from foir import BadPrompt, Index, Searcher
from foir.app import layout, watches
from foir.app.collections import Collections
from foir.app.controller import Controller
from foir.app.server import image_routes
from foir.app.sessions import Settings
from index_build.pipeline import Plan, build
from index_build.update import update
from tests.conftest import scene

PHS = Settings("phs", 2)


def photo(path, number, date, camera):
    exif = Image.Exif()
    exif[0x0132], exif[0x0110] = date, camera
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(number).save(path, exif=exif, quality=95)


@pytest.fixture
def library(tmp_path, toy):
    """Six photos of two cameras in two folders, on a page on localhost."""
    for number in range(6):
        folder, camera = ("summer", "Pixel 9") if number % 2 else ("winter/alps", "Nikon D90")
        photo(tmp_path / "photos" / folder / f"{number}.jpg", number, f"2024:0{number + 1}:15 10:00:00", camera)
    build(Plan(tmp_path / "photos", tmp_path / "index", "toy", device="cpu"))

    def open_collection(address, key, models=None):
        index = Index.open(address)
        return Controller(index, lambda: Searcher(index, toy), key, serves_files=made[0].can_add)

    made = [Collections([tmp_path / "index"], open_collection, can_add=True)]
    yield made[0]
    made[0].watches.stop_all()


def found(page, **changes):
    settings = Settings("phs", 2, **changes)
    shown = page.search(page.start(PHS).session, settings)
    return {page.index.get(hit["id"]).file for hit in shown.results["hits"]}


def test_a_search_is_narrowed_to_dates_folders_and_cameras(library):
    page = library.controller()
    facets = page.capabilities.facets
    assert facets.folders == ("summer", "winter", "winter/alps") and facets.cameras == ("Nikon D90", "Pixel 9")
    assert facets.dated and page.capabilities.follows_folder
    others = {item.file for item in page.index.items()} - {page.index.item(0).file}
    assert found(page) == others
    assert found(page, camera="Pixel 9") == {f"summer/{n}.jpg" for n in (1, 3, 5)} & others
    assert found(page, date="2024-03..2024-04") == {"winter/alps/2.jpg", "summer/3.jpg"} & others
    assert found(page, folder="winter") == {f"winter/alps/{n}.jpg" for n in (0, 2, 4)} & others
    with pytest.raises(BadPrompt, match="is no date"):
        found(page, date="summer")
    state = layout.initial_state(page.capabilities)
    assert state["camera"]["choices"] == [("any", ""), ("Nikon D90", "Nikon D90"), ("Pixel 9", "Pixel 9")]
    assert state["date"]["visible"] and state["watch"] == {"value": False, "visible": True}


def test_why_says_when_a_photo_was_taken_and_leads_to_its_file(library):
    page = library.controller()
    session = page.start(PHS).session
    item = session.results.items[0]
    why = page.explain(session, item.id)
    assert f"Taken 2024-0{int(item.file[-5]) + 1}-15 10:00 with {item.camera}." in why["lines"]
    assert why["link"] == {"url": f"file/{library.default_key}/{item.id}", "text": "Open the file"}
    client = TestClient(Starlette(routes=image_routes(library)))
    assert client.get(f"/{why['link']['url']}").content == page.index.picture(item).read_bytes()
    assert client.get(f"/file/{library.default_key}/99").status_code == 404
    assert client.get(f"/{why['link']['url']}", headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 404


def test_files_are_served_on_localhost_only(library):
    library.can_add = False
    page = library.controller()
    session = page.start(PHS).session
    assert page.explain(session, session.results.items[0].id)["link"] is None
    client = TestClient(Starlette(routes=image_routes(library)))
    assert client.get(f"/file/{library.default_key}/0").status_code == 404
    with pytest.raises(BadPrompt, match="on this computer"):
        library.watch(library.default_key, True)


def test_a_watched_collection_is_opened_again_when_it_changed(library, tmp_path, monkeypatch):
    """A stand-in for the command prints what it would when the folder changes."""
    (tmp_path / "standin.py").write_text(
        "import pathlib, sys, time\n"
        "print('0 images added, 0 encoded again, 0 removed', flush=True)\n"
        f"news = pathlib.Path({str(tmp_path / 'news')!r})\n"
        "while not news.exists(): time.sleep(0.05)\n"
        "print('1 images added, 0 encoded again, 0 removed', flush=True)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(watches, "MODULE", "standin")
    monkeypatch.setattr(watches, "ROOT", tmp_path)
    key, before = library.default_key, library.controller()
    library.watch(key, True)
    assert library.watches.watches(key)
    photo(tmp_path / "photos" / "new.jpg", 9, "2025:01:01 10:00:00", "Pixel 9")
    update(tmp_path / "index", device="cpu")
    assert library.controller() is before
    (tmp_path / "news").touch()
    deadline = time.monotonic() + 20
    while library.controller() is before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(library.controller().index) == 7
    library.watch(key, False)
    deadline = time.monotonic() + 20
    while library.watches.watches(key) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not library.watches.watches(key)


def test_the_best_of_duplicates_is_kept_and_the_others_go_to_the_trash(library, tmp_path, monkeypatch):
    trashed = []

    def trash(path):
        trashed.append(path.name)
        path.unlink()

    monkeypatch.setattr("send2trash.send2trash", trash)
    photos = tmp_path / "photos"
    (photos / "copy.jpg").write_bytes((photos / "summer" / "1.jpg").read_bytes())
    update(tmp_path / "index", device="cpu")
    key = library.add(tmp_path / "index")
    views = library.controller(key).views
    (group,) = views.duplicates()["groups"]
    best, spare = (library.controller(key).index.get(card["id"]) for card in group["items"])
    assert group["kind"] == "exact" and {best.file, spare.file} == {"copy.jpg", "summer/1.jpg"}
    for wrong in (None, [], [best.id], [best.id, spare.id], ["0"], [99]):
        with pytest.raises(BadPrompt, match="Only duplicates beside the best"):
            library.discard(key, key, wrong)
    with pytest.raises(BadPrompt, match="another collection"):
        library.discard(key, "another", [spare.id])
    file, kept = (library.controller(key).index.original(item) for item in (spare, best))
    data = file.read_bytes()
    file.unlink()
    for change in (lambda: None, lambda: file.symlink_to(kept), lambda: file.write_bytes(b"edited since")):
        change()
        with pytest.raises(BadPrompt, match="changed since"):
            library.discard(key, key, [spare.id])
        file.unlink(missing_ok=True)
    assert kept.exists() and not trashed
    file.write_bytes(data)
    os.utime(file, ns=(spare.modified, spare.modified))
    library.discard(key, key, [spare.id])
    deadline = time.monotonic() + 60
    while library.job.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert library.job.succeeded and len(library.controller(key).index) == 6
    assert trashed == [spare.file.rpartition("/")[2]] and library.controller(key).views.duplicates()["groups"] == []
    library.can_add = False
    library.add(tmp_path / "index")
    with pytest.raises(BadPrompt, match="only where the page runs"):
        library.discard(key, key, [spare.id])
