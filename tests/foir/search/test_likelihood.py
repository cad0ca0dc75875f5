"""Likelihoods: the model by hand, lists that end, and what has no likelihood."""

import json

import numpy as np
import pytest

from foir import BadPrompt, Feedback, Prompt, Query, Searcher
from foir.regions.recipe import RegionRecipe
from foir.search import likelihood
from foir.search.likelihood import LikelihoodModel, Network, Spread, model_of
from index_build.pipeline import Plan, build
from tests.conftest import scene

BOX, COUNT = Prompt.box(20, 15, 80, 75), 14


def network(*weights, bias):
    """A network without hidden units, on evidence as it is."""
    layer = {"weight": [[weight] for weight in weights], "bias": [bias]}
    return {"mean": [0] * 9, "deviation": [1] * 9, "layers": [layer]}


WEIGHTS = {"pointed": (2.0, 3.0, 0, 0, 0.1, 0.5, 0, 0, 0), "named": (1.0, 2.0, 0, 0, 0, 0, 0, 0, 0)}
BIAS = {"pointed": -4.0, "named": -3.0}
FITTED = {kind: network(*weights, bias=BIAS[kind]) for kind, weights in WEIGHTS.items()} | {"likely": 0.5}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    root = tmp_path_factory.mktemp("likelihood")
    (root / "pictures").mkdir()
    for number in range(COUNT):
        scene(number, (160, 120)).save(root / "pictures" / f"{number:02}.png")
    build(Plan(root / "pictures", root / "index", "toy-words", device="cpu"))
    return root / "index"


@pytest.fixture
def fit(tmp_path, monkeypatch, index):
    """A model in the file that foir reads, for the index's encoder; returns a searcher with other facts replaced."""

    def make(**changed):
        space = Searcher.load(index, device="cpu").space
        facts = {"encoder": space.encoder, "revision": space.revision, "way": RegionRecipe().way} | FITTED | changed
        monkeypatch.setattr(likelihood, "FILE", tmp_path / f"{len(list(tmp_path.iterdir()))}.json")
        likelihood.FILE.write_text(json.dumps(facts))
        return Searcher.load(index, device="cpu")

    return make


def pointed(searcher, **options):
    picture = searcher.open(searcher.index.picture(searcher.index.item(1)))
    return Query(picture, BOX, k=COUNT, **options)


def by_hand(kind, hits):
    """Likelihoods by the regions' scores, of all images."""
    scores = np.array([regions[0].score for regions in hits.regions], float)
    standard = (scores - scores.mean()) / scores.std()
    evidence = [scores, standard, scores.mean(), scores.std(), (standard**3).mean(), standard.max()]
    logits = BIAS[kind] + sum(weight * each for weight, each in zip(WEIGHTS[kind], evidence, strict=False))
    return 1 / (1 + np.exp(-logits))


def test_likelihoods_are_those_of_the_model_and_the_likely_come_first(fit):
    searcher = fit()
    for query, kind in ((pointed(searcher), "pointed"), (Query(text="thing 3", k=COUNT), "named")):
        hits = searcher.search(query)
        np.testing.assert_allclose(hits.likelihoods, by_hand(kind, hits), atol=2e-2)
        assert hits.likely is not None and 0 < hits.likely < COUNT
        assert (hits.likelihoods[: hits.likely] >= 0.5).all() and (hits.likelihoods[hits.likely :] < 0.5).all()
        for group in (slice(hits.likely), slice(hits.likely, None)):
            assert (np.diff(hits.scores[group]) <= 0).all()


def test_several_things_must_all_be_there(fit):
    searcher = fit()
    picture = searcher.open(searcher.index.picture(searcher.index.item(1)))
    both = searcher.search(Query(picture, Prompt(boxes=((20, 15, 80, 75), (90, 40, 150, 110))), k=COUNT))
    one = searcher.search(Query(picture, BOX, k=COUNT))
    of_one = dict(zip([item.id for item in one.items], one.likelihoods, strict=True))
    assert all(value <= of_one[item.id] + 1e-6 for item, value in zip(both.items, both.likelihoods, strict=True))


def test_a_list_can_end(fit):
    searcher = fit()
    hits = searcher.search(pointed(searcher))
    cut = searcher.search(pointed(searcher, min_likelihood=0.5))
    assert cut.items == hits.items[: hits.likely] and cut.likely == hits.likely == len(cut.regions)
    assert searcher.search(pointed(searcher, min_likelihood=1.0)).items == ()
    with pytest.raises(BadPrompt, match="A likelihood is 0 to 1, not 7"):
        pointed(searcher, min_likelihood=7)


@pytest.mark.parametrize("other", [{"revision": "another"}, {"encoder": "another"}, {"way": "masked"}])
def test_another_encoder_has_no_likelihood_and_its_list_is_not_cut(fit, other):
    searcher = fit(**other)
    hits = searcher.search(pointed(searcher))
    assert hits.likelihoods is None and hits.likely is None and (np.diff(hits.scores) <= 0).all()
    with pytest.raises(BadPrompt, match="no likelihood: none is fitted"):
        searcher.search(pointed(searcher, min_likelihood=0.5))


def test_judged_results_and_whole_pictures_have_no_likelihood(fit):
    searcher = fit()
    picture = searcher.open(searcher.index.picture(searcher.index.item(1)))
    for query in (
        pointed(searcher, feedback=Feedback(liked=[2])),
        pointed(searcher, context=1.0),
        pointed(searcher, text="thing 3", text_weight=1.0),
        Query(picture, k=COUNT),
    ):
        assert searcher.search(query).likelihoods is None


def test_what_says_the_words_is_likely(fit):
    searcher = fit(named=network(*[0] * 9, bias=-39))
    hits = searcher.search(Query(text="05", k=COUNT))
    assert hits.items[0].file == "05.png" and hits.likely == 1 and hits.likelihoods[0] < 1e-9
    assert searcher.search(Query(text="thing 3", k=COUNT)).likely == 0


def test_a_network_is_two_products_with_what_is_positive_between():
    weights, rng = [(9, 4), (4, 3), (3, 1)], np.random.default_rng(0)
    layers = [(rng.normal(size=shape), rng.normal(size=shape[1])) for shape in weights]
    made = Network.model_validate(
        {
            "mean": [0.5] * 9,
            "deviation": [2.0] * 9,
            "layers": [{"weight": weight.tolist(), "bias": bias.tolist()} for weight, bias in layers],
        }
    )
    evidence = rng.normal(size=(5, 9))
    values = (evidence - 0.5) / 2
    for weight, bias in layers[:-1]:
        values = np.maximum(values @ weight + bias, 0)
    logits = (values @ layers[-1][0] + layers[-1][1])[:, 0]
    np.testing.assert_allclose(made(evidence), 1 / (1 + np.exp(-logits)))


def test_what_is_unknown_counts_in_no_spread_and_of_few_images_the_first_is_any_share():
    scores = np.array([0.9, -np.inf, 0.5, 0.1], np.float32)
    spread = Spread.of(scores)
    assert spread.mean == pytest.approx(0.5) and spread.ranked == pytest.approx((0.9,) * 4)
    assert Spread.of(np.arange(1000.0)).ranked == (990, 960, 920, 840)
    assert Spread.of(scores, np.array([1.0, 0.0])).mean == 0.5 and np.isfinite(spread.evidence(scores[[0, 2]])).all()
    assert np.isfinite(Spread.of(np.ones(3)).evidence(np.ones(3))).all()


def test_other_regions_than_the_fitted_ones_have_none(toy):
    facts = {"encoder": toy.name, "revision": toy.revision, "way": RegionRecipe().way} | FITTED
    assert LikelihoodModel.model_validate(facts).way == RegionRecipe().way
    assert model_of(toy, RegionRecipe(limit=4)) is None
