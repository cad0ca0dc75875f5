"""Search by words: alone, beside what is pointed at, and against words that must not be there."""

import numpy as np
import pytest

from foir import BadIndex, BadPrompt, Index, Prompt, Searcher, Unavailable, encoders, image_text
from foir.cli import main
from foir.ranking.fusion import Part, zscore_fuse
from foir.search.query import Query
from index_build.pipeline import Plan, build
from tests.conftest import speaking_searcher


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    return speaking_searcher(tmp_path_factory.mktemp("words"), 10)


@pytest.fixture
def two_models(folder, tmp_path):
    build(Plan(folder, tmp_path / "index", "toy", text="toy-words", heads=True, device="cpu"))
    return Searcher.load(tmp_path / "index", device="cpu")


def test_a_model_that_knows_words_keeps_its_vectors_once(searcher):
    image, text = (searcher.index.manifest.spaces[name] for name in ("image", "text"))
    assert image.shards == text.shards
    assert image.heads and not text.heads
    assert searcher.image_text.encoder is searcher.encoder


def test_words_find_the_picture_they_name(searcher):
    for number in (0, 4, 9):
        hits = searcher.search(Query(text=f"thing {number}", k=3, context=1))
        assert hits.items[0].file == f"{number:02}.png"
        assert hits.scores[0] == pytest.approx(1, abs=2e-3)  # the index keeps float16
        assert hits.features is None and hits.mask is None and hits.heads is None
        assert not hits.is_fused


def test_words_beside_another_encoders_pictures(two_models):
    spaces = two_models.index.manifest.spaces
    assert spaces["image"].encoder == "toy" and spaces["text"].encoder == "toy-words"
    assert two_models.image_text.encoder is not two_models.encoder
    assert two_models.search(Query(text="thing 7", k=1)).items[0].file == "a/07.png"
    assert two_models.caption(two_models.open(two_models.index.picture(two_models.index.item(0)))) == "picture of 1"


def test_the_weight_moves_from_the_picture_to_the_words(searcher):
    picture = searcher.open(searcher.index.picture(searcher.index.item(2)))
    only_picture = searcher.search(Query(picture, text="thing 6", text_weight=0.0, k=10))
    only_words = searcher.search(Query(picture, text="thing 6", text_weight=1.0, k=10))
    both = searcher.search(Query(picture, text="thing 6", text_weight=0.5, k=10))
    assert only_picture.items == searcher.search(Query(picture, k=10)).items
    assert only_words.items == searcher.search(Query(text="thing 6", k=10)).items
    assert {both.items[0].id, both.items[1].id} == {2, 6}
    assert both.is_fused and both.features is not None


def test_the_sum_is_that_of_standard_scores(searcher):
    picture = searcher.open(searcher.index.picture(searcher.index.item(1)))
    prompt = Prompt.box(10, 10, 90, 70)
    hits = searcher.search(
        Query(picture, prompt, text="thing 3", negative_text="thing 5", text_weight=0.3, k=10, context=1)
    )
    matrix = np.concatenate(searcher.space.shards).astype(np.float32)
    pointed = searcher.search(Query(picture, prompt, k=1)).features.vectors[0].numpy()
    said = searcher.image_text.encode_texts(["thing 3", "thing 5"]).vectors

    def standard(vector):
        scores = matrix @ vector
        return (scores - scores.mean()) / scores.std()

    expected = 0.7 * standard(pointed) + 0.3 * standard(said[0]) - 0.3 * np.maximum(standard(said[1]), 0)
    rows = np.argsort(-expected, kind="stable")
    assert [item.id for item in hits.items] == rows.tolist()
    np.testing.assert_allclose(hits.scores, expected[rows], atol=1e-4)


def test_minus_words_push_down(searcher):
    plain = [item.id for item in searcher.search(Query(text="thing 3", k=10)).items]
    worst = [item.id for item in searcher.search(Query(text="thing 3", negative_text="thing 8", k=10)).items]
    assert worst.index(8) >= plain.index(8)
    assert worst[-1] == 8


def test_minus_words_with_a_picture_alone(searcher):
    picture = searcher.open(searcher.index.picture(searcher.index.item(2)))
    hits = searcher.search(Query(picture, negative_text="thing 2", text_weight=1.0, k=10))
    assert hits.items[-1].id == 2


def test_words_with_a_gated_database(searcher):
    picture = searcher.open(searcher.index.picture(searcher.index.item(1)))
    prompt = Prompt.box(10, 10, 90, 70)
    gated = searcher.search(Query(picture, prompt, mode="query-db", k=10))
    with_words = searcher.search(Query(picture, prompt, text="thing 3", text_weight=0.0, mode="query-db", k=10))
    assert with_words.items == gated.items


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"negative_text": "thing 1"},
        {"text": "   "},
        {"text": "thing 1", "text_weight": 1.5},
        {"text": "thing 1", "text_weight": float("nan")},
        {"text": "thing 1", "prompt": Prompt.point(1, 1)},
        {"text": "thing 1", "k": 0},
    ],
)
def test_wishes_that_make_no_sense(searcher, wish):
    with pytest.raises(BadPrompt):
        searcher.search(Query(**wish))


def test_a_cut_text_is_told(searcher):
    assert searcher.search(Query(text=f"{'long ' * 20}thing 1", k=1)).notes == ("Only the first words were read.",)


def test_an_index_without_words_says_how_to_get_them(folder, tmp_path):
    build(Plan(folder, tmp_path / "index", "toy", device="cpu"))
    searcher = Searcher.load(tmp_path / "index", device="cpu")
    with pytest.raises(BadIndex, match="--text mini"):
        searcher.search(Query(text="thing 1"))


def test_a_text_space_of_another_revision_is_refused(two_models, monkeypatch):
    space = two_models.index.spaces["text"]
    object.__setattr__(space, "revision", "seed-8")
    with pytest.raises(BadIndex, match="seed-8"):
        two_models.search(Query(text="thing 1"))


def test_a_model_without_words_cannot_be_the_text_model(folder, tmp_path):
    with pytest.raises(Unavailable, match="encodes no text"):
        build(Plan(folder, tmp_path / "index", "toy", text="toy", device="cpu"))
    with pytest.raises(Unavailable, match="encodes no text"):
        image_text.load(encoders.load("toy", device="cpu"))


def test_equal_scores_add_nothing():
    some, equal = np.array([0.1, 0.3], np.float32), np.array([2, 2], np.float32)
    assert zscore_fuse([Part(1.0, some), Part(5.0, equal)]).argmax() == 1


def test_the_command_line_searches_by_words(two_models, folder, capsys):
    out = str(two_models.index.folder)
    assert main.main(["search", out, "--text", "thing 4", "--k", "2", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].endswith("b/04.png")
    picture = str(folder / "a" / "01.png")
    words = [
        "--text",
        "thing 4",
        "--negative-text",
        "thing 8",
        "--text-weight",
        "0.4",
        "--box",
        "10,10,80,80",
        "--device",
        "cpu",
    ]
    assert main.main(["search", out, picture, *words, "--device", "cpu"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert main.main(["search", out, "--device", "cpu"]) == 1
    assert "give an image or a text" in capsys.readouterr().err
    assert main.main(["search", out, "--text", "thing 1", "--explain", "x.png"]) == 1
    assert "nothing to explain" in capsys.readouterr().err


def test_the_index_names_its_models(searcher):
    assert set(Index.open(searcher.index.folder).spaces) == {"image", "text"}
