"""Recipes: what an index stores, and what a stranger may have stored."""

import json

import pytest

from foir import BadIndex, BadPrompt
from foir.regions.recipe import MAX_LIMIT, RegionRecipe

RECIPES = [
    RegionRecipe(),
    RegionRecipe(way="masked", views="tiles", limit=256, scales=((0.1, 3), (1.0, 1))),
    RegionRecipe(way="pooled", views="crops", finder="finder@1"),
    RegionRecipe(way="mao", limit=1, finder="finder@1", mode='{"steps": 80}'),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.way)
def test_an_index_gives_back_what_it_was_given(recipe):
    assert RegionRecipe.from_json(recipe.to_json()) == recipe
    assert RegionRecipe.from_json(recipe.to_json()).to_json() == recipe.to_json()


STRANGE = [
    "", "crops", "[]", "null", "{}x", '{"way": "magic"}', '{"way": 5}', '{"way": null}', '{"limit": 0}',
    '{"limit": -1}', '{"limit": 257}', '{"limit": 1e400}', '{"limit": 2.5}', '{"limit": NaN}', '{"views": "all"}',
    '{"views": ["whole"]}', '{"scales": []}', '{"scales": [[0, 1]]}', '{"scales": [[2, 1]]}', '{"scales": [[NaN, 1]]}',
    '{"scales": [[1, 17]]}', '{"scales": [[0.5, 0]]}', '{"scales": [[0.5]]}', '{"scales": 1}', '{"more": 1}',
    '{"way": "mao", "limit": 16}', '{"way": "mao", "limit": 1, "views": "tiles"}', '{"finder": 1}',
    json.dumps({"scales": [[0.5, 1]] * 9}), json.dumps({"way": "x" * 1000}), json.dumps({"mode": "x" * 5000}),
    json.dumps({"limit": 10**40}), "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", STRANGE, ids=lambda text: text[:40])
def test_a_strangers_recipe_is_refused_in_one_sentence(text):
    with pytest.raises(BadIndex) as caught:
        RegionRecipe.from_json(text)
    told = str(caught.value)
    assert told.endswith(".") and ". " not in told and told.isprintable() and len(told) < 200


def test_a_build_chooses_one_or_none():
    assert RegionRecipe.choose(0, "anything", "whole") is None
    assert RegionRecipe.choose(16, "blended", "whole") == RegionRecipe()
    assert RegionRecipe.choose(16, "mao", "whole") == RegionRecipe.choose(1, "mao", "whole")
    chosen = RegionRecipe.choose(8, "pooled", "crops")
    assert chosen is not None and chosen.needs_objects and chosen.limit == 8
    assert not RegionRecipe(views="tiles").needs_objects and RegionRecipe(way="mao", limit=1).needs_objects


@pytest.mark.parametrize(
    ("limit", "way", "views", "sentence"),
    [
        (16, "boxes", "whole", "no way 'boxes'"),
        (16, "blended", "all", "views"),
        (-1, "blended", "whole", "limit"),
        (MAX_LIMIT + 1, "blended", "whole", "limit"),
        (16, "mao", "tiles", "MaO makes one vector of the whole picture"),
    ],
)
def test_a_build_that_makes_no_sense_is_told(limit, way, views, sentence):
    with pytest.raises(BadPrompt, match=sentence) as caught:
        RegionRecipe.choose(limit, way, views)
    assert str(caught.value).endswith(".")
