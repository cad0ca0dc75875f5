"""Collections: opened when they are chosen, added by a process of their own, only where that is allowed."""

import shutil
import time

import pytest
from PIL import Image

from foir import BadIndex, BadPrompt, FoirError, Index, Searcher, Unavailable, encoders
from foir.app.capabilities import Capabilities
from foir.app.collections import MAX_OPEN, SAMPLE, Collections
from foir.app.controller import Controller
from foir.app.jobs import IndexingJob, encoder_choices
from foir.app.server import is_localhost
from foir.app.sessions import Settings
from foir.encoders import mini
from foir.index.remote import local_folder
from index_build.pipeline import Plan, build
from tests.conftest import draw, scene


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Indexes of six folders, of other sizes."""
    root = tmp_path_factory.mktemp("collections")
    for count in range(1, MAX_OPEN + 3):
        build(Plan(draw(root / f"pictures-{count}", count), root / f"index-{count}", "toy", device="cpu"))
    return [root / f"index-{count}" for count in range(1, MAX_OPEN + 3)]


@pytest.fixture
def opened():
    """What was opened, in order."""
    return []


@pytest.fixture
def library(folders, opened, toy):
    def page(address, key):
        opened.append(address)
        index = Index.open(address)
        return Controller(index, lambda: Searcher(index, toy), key)

    library = Collections(folders[:1], page, can_add=True)
    for folder in folders[1:]:
        library.add(folder)
    return library


def taken(address, title):
    return "key"


def unopened(address, key):
    raise AssertionError("nothing is opened here")


def arrived(job, seconds=120):
    deadline = time.monotonic() + seconds
    while job.running and time.monotonic() < deadline:
        time.sleep(0.05)
    return job.succeeded


def test_a_collection_is_opened_when_it_is_chosen_and_the_last_few_stay_open(library, folders, opened):
    keys = [key for _, key in library.choices()]
    assert [title for title, _ in library.choices()] == [folder.name for folder in folders] and opened == []
    assert len(library.controller().index) == 1 and library.controller().key == library.default_key == keys[0]
    for number, key in enumerate(keys, 1):
        assert len(library.controller(key).index) == number and library.controller(key) is library.controller(key)
    assert opened == folders
    library.controller(keys[-1])
    assert opened == folders
    library.controller(keys[0])
    assert opened == [*folders, folders[0]]
    with pytest.raises(BadPrompt, match="no such collection"):
        library.controller("../other")


def test_a_visitor_stays_in_the_collection_that_was_entered(library):
    keys = [key for _, key in library.choices()]
    tokens = [library.sessions.put(library.controller(key).start(Settings("phs", 2)).session) for key in keys]
    for number, (key, token) in enumerate(zip(keys, tokens, strict=True), 1):
        page, session = library.resume(token)
        assert page.key == session.collection == key
        assert len(page.search(session, Settings("phs", 2)).results["hits"]) <= number
        assert all(hit["url"].startswith(f"thumb/{key}/") for hit in page.views.results(session)["hits"])


def test_one_that_cannot_be_opened_says_so_and_the_others_stay(library, tmp_path):
    key = library.add(tmp_path / "nothing")
    with pytest.raises(BadIndex):
        library.controller(key)
    assert len(library.controller().index) == 1


def test_one_that_changed_is_opened_anew(library, opened, folders):
    before = library.controller()
    assert library.add(folders[0]) == library.default_key
    assert library.controller() is not before and opened == [folders[0], folders[0]]


def test_a_folder_is_indexed_followed_and_taken_up_again(tmp_path, monkeypatch, library):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    pictures = draw(tmp_path / "my pictures", 3)
    (pictures / "bad.jpg").write_bytes(b"no picture")
    job = library.start_job(f" {pictures} ", "mini", tiles=False)
    assert job.progress().running
    with pytest.raises(BadPrompt, match="Another collection is being added"):
        library.start_job(str(pictures), "mini", tiles=False)
    assert arrived(job), job.progress()
    assert (job.progress().done, job.progress().total) == (4, 4)
    index = Index.open(job.address)
    assert [item.file for item in index.items()] == ["00.png", "01.png", "02.png"] and index.space().z
    key = job.key
    assert ("my pictures", key) in library.choices() and len(library.controller(key).index) == 3
    scene(9).save(pictures / "09.png")
    again = library.start_job(str(pictures), "mini", tiles=False)
    assert again.address == job.address and arrived(again)
    assert again.key == key and len(library.controller(key).index) == 4
    assert len(Index.open(again.address)) == 4


def test_stopping_keeps_what_is_done_and_is_no_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    job = IndexingJob.start(str(draw(tmp_path / "pictures", 3)), "mini", tiles=False, on_success=taken)
    job.stop()
    assert not arrived(job) and not job.running
    assert job.progress().error == ""


def test_what_goes_wrong_is_told_in_its_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.jpg").write_bytes(b"no picture")
    job = IndexingJob.start(str(tmp_path / "bad"), "mini", tiles=False, on_success=taken)
    assert not arrived(job)
    assert job.progress().error.startswith("None of the 1 images under")
    for said, words in ((str(tmp_path / "none"), "no folder"), (" ", "Enter a folder"), ("\0", "no folder")):
        with pytest.raises(BadPrompt, match=words):
            IndexingJob.start(said, "mini", tiles=False, on_success=taken)
    with pytest.raises(BadPrompt, match="no such encoder"):
        IndexingJob.start(str(tmp_path / "bad"), "--device", tiles=False, on_success=taken)
    with pytest.raises(Unavailable, match="no address"):
        IndexingJob.start("hf://datasets/one", "mini", tiles=False, on_success=taken)


def test_a_folder_that_is_an_index_is_checked_and_opened(folders, tmp_path):
    job = IndexingJob.start(str(folders[1]), "mini", tiles=False, on_success=taken)
    assert arrived(job) and job.address == folders[1].resolve()
    shutil.copytree(folders[1], tmp_path / "damaged")
    shard = next((tmp_path / "damaged").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    job = IndexingJob.start(str(tmp_path / "damaged"), "mini", tiles=False, on_success=taken)
    assert not arrived(job) and "damaged" in job.progress().error


def test_visitors_of_a_served_page_add_nothing(folders, tmp_path):
    library = Collections(folders, unopened)
    with pytest.raises(FoirError, match="only on localhost"):
        library.start_job(str(tmp_path), "mini", tiles=False)
    assert library.job is None


@pytest.mark.parametrize(
    ("environment", "own"),
    [
        ({}, True),
        ({"GRADIO_SERVER_NAME": "localhost"}, True),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        ({"SPACE_ID": "tester/look"}, False),
        ({"FOIR_HOSTS": "look.example"}, False),
        ({"FOIR_ADD": "no"}, False),
        ({"FOIR_ADD": "yes", "GRADIO_SERVER_NAME": "0.0.0.0"}, True),
    ],
)
def test_collections_are_added_where_only_this_machines_user_comes(monkeypatch, environment, own):
    for name in ("GRADIO_SERVER_NAME", "SPACE_ID", "SPACE_HOST", "FOIR_HOSTS", "FOIR_ADD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_localhost() is own


def test_what_a_collection_offers():
    offer = Capabilities.from_index(Index.open(SAMPLE))
    assert (offer.has_text, offer.has_head_cache, offer.heads) == (True, True, 12)
    assert offer.settings.method == "attention_mask|phs" and offer.settings.heads == 5
    assert offer.about.startswith("600 images, ") and "encoded by mini (MIT and Apache-2.0)" in offer.about
    assert "Microsoft Fluent 3D emoji (MIT)" in offer.about and offer.about.endswith(mini.TERMS)


def test_what_a_collection_without_words_and_heads_offers(folders):
    offer = Capabilities.from_index(Index.open(folders[0]))
    assert (offer.has_text, offer.has_head_cache, offer.has_regions, offer.heads) == (False, False, True, 6)
    assert offer.settings.method == "attention_mask|phs"
    assert "Source:" not in offer.about and "Flickr8k" not in offer.about


def test_the_menu_of_encoders_has_those_that_can_be_pointed():
    names = encoder_choices()
    assert "mini" in names and "dinov2-base-reg" in names and "siglip-base" not in names
    assert not any(name.endswith(":") for name in names)
    assert encoders.encoder_spec("mini").licence in names["mini"]


def test_addresses_on_the_hub_have_a_place_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = local_folder("hf://datasets/tester/one"), local_folder("hf://datasets/tester/one@v1")
    assert one != other and one.is_relative_to(tmp_path) and local_folder(SAMPLE) == SAMPLE
    library = Collections(["hf://datasets/tester/one", SAMPLE], unopened)
    assert [title for title, _ in library.choices()] == ["tester/one", "Sample"]


def test_pictures_of_a_collection_without_any_are_no_crash(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (tmp_path / "empty").mkdir()
    job = IndexingJob.start(str(tmp_path / "empty"), "mini", tiles=False, on_success=taken)
    assert not arrived(job) and job.progress().error
    Image.new("RGB", (8, 8)).save(tmp_path / "empty" / "one.png")
    assert arrived(IndexingJob.start(str(tmp_path / "empty"), "mini", tiles=False, on_success=taken))
