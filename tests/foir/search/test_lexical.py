"""Words of a query in captions, keywords and names of files."""

from types import SimpleNamespace

import numpy as np
import pytest

from foir import BadPrompt, Index, Query, Searcher, encoders
from foir.search import lexical
from foir.search.lexical import NAMED, TextIndex
from index_build.pipeline import Plan, build
from index_build.sources import Metadata
from tests.conftest import draw

TEXTS = [
    ("A red apple on a table.", None, "IMG_1.jpg"),
    ("A green apple, two pears.", "fruit\nautumn", "kitchen/Fruit_bowl.jpg"),
    ("Dogs are running in the snow.", None, "winter/IMG_3.jpg"),
    (None, None, "winter/myOldDog.jpg"),
    ("Étude with an ‘odd’ name", None, "a%_'\".jpg"),
]


@pytest.fixture(scope="module")
def words():
    return TextIndex(made(TEXTS))


def made(texts, name="made"):
    class Made(list):
        manifest = SimpleNamespace(items=name)

        def texts(self):
            return list(self)

    return Made(texts)


@pytest.mark.parametrize(
    ("text", "best"),
    [
        ("red apple", [0]), ("an apple", [0, 1]), ("a running dog", [2]), ("dog", [2, 3]), ("autumn fruits", [1]),
        ("bowl", [1]), ("etude", [4]), ("winter", [2, 3]), ("old", [3]),
    ],
)  # fmt: skip
def test_images_that_say_more_and_rarer_words_come_first(words, text, best):
    share = words.find(text).share
    assert np.flatnonzero(share == share.max()).tolist() == best and 0 < share.max() <= 1


def test_half_of_the_words_are_worth_less_than_all(words):
    share = words.find("a red apple").share
    assert share[0] == pytest.approx(1) and 0 < share[1] < 0.5  # "apple" is the more frequent word


def test_unknown_words_are_named_and_weigh_as_the_rarest(words):
    found = words.find("red xyzzy")
    assert found.unknown == ("xyzzy",) and 0 < found.share[0] < 0.5
    assert not words.find("xyzzy").share.any()


def test_quotes_mean_what_stands_there(words):
    found = words.find('an "apple on a table"')
    assert found.quoted is not None and np.flatnonzero(found.quoted).tolist() == [0]
    none = words.find("“apple under a table”")
    assert none.quoted is None and none.unsaid == ("apple under a table",)


@pytest.mark.parametrize("name", ["IMG_3.jpg", "winter/IMG_3.jpg", "img_3"])
def test_the_name_of_a_file_finds_it(words, name):
    share = words.find(name).share
    assert np.flatnonzero(share == NAMED).tolist() == [2]


@pytest.mark.parametrize(
    "text", ['"', "NEAR(a b)", "a AND OR", "* ' ; DROP TABLE texts; --", "\u201c\u201d", "é" * 300, "?"]
)
def test_whatever_is_typed_is_words(words, text):
    assert words.find(text).share.shape == (5,)


def test_words_of_a_large_index_are_kept_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(lexical, "MAX_IN_MEMORY", 3)
    share = TextIndex.of(made(TEXTS)).find("dog").share
    (file,) = tmp_path.rglob("made.sqlite")
    monkeypatch.setattr(lexical, "_fill", None)
    np.testing.assert_array_equal(TextIndex.of(made(TEXTS)).find("dog").share, share)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(lexical, "MAX_IN_MEMORY", 3)
    file.write_bytes(b"no database")
    np.testing.assert_array_equal(TextIndex.of(made(TEXTS)).find("dog").share, share)


def test_a_search_by_words_finds_captions_and_files_first(tmp_path):
    captions = {"03.png": Metadata("A purple hippopotamus."), "05.png": Metadata("A purple thing.")}
    build(Plan(draw(tmp_path / "p", 8), tmp_path / "i", "toy-words", device="cpu", metadata=captions))
    searcher = Searcher(Index.open(tmp_path / "i"), encoders.load("toy-words", device="cpu"))

    def found(text, **how):
        return [item.file for item in searcher.search(Query(text=text, **how)).items]

    assert found("purple hippopotamus 40")[0] == "03.png"
    assert found("06.png")[0] == "06.png"
    assert found('"purple thing" 7') == ["05.png"]
    results = searcher.search(Query(text='"purple sea" 7'))
    assert "says “purple sea”" in results.notes[0] and len(results.items) == 8
    assert searcher.search(Query(text="thing 7", k=3)).similarities is None  # "thing" stands in a caption
    assert searcher.search(Query(text="number 7", k=3)).similarities is not None
    with pytest.raises(BadPrompt, match="in quotes"):
        found('"purple thing" 7', exclude=[5])
