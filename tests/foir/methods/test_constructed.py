"""A model whose heads are known to look at known places, through the whole stack: files, index, searcher."""

import numpy as np
import pytest
import torch
from PIL import Image

from foir import Prompt, Searcher, encoders
from foir.encoders.base import Encoder
from foir.encoders.block import BlockModules, identity
from foir.search.query import Query
from index_build.pipeline import Plan, build

SIDE, GRID = 32, 8  # pixels, patches
RED, GREEN, BLUE, YELLOW, PINK, CYAN = (
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255),
)  # fmt: skip


def quadrant_of_patch():
    y, x = np.mgrid[:GRID, :GRID] >= GRID // 2
    return torch.from_numpy((2 * y + x).reshape(-1))


@encoders.register_encoder("quadrants", weights="by hand", licence="Apache-2.0", dim=16, heads=4, blocks=1)
def build_quadrants(card, name, revision, pretrained):
    """Head i of 4 attends to quadrant i alone and reports its mean colour; nothing else is in the feature."""

    def embed(pixels):
        colour = torch.nn.functional.avg_pool2d(pixels, SIDE // GRID).flatten(2).transpose(1, 2)
        place = torch.nn.functional.one_hot(quadrant_of_patch(), 4).float().expand(len(pixels), -1, -1)
        patches = torch.cat([colour, torch.zeros_like(colour[..., :1]), place], -1)
        return torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)

    def qkv(u):
        colour, place = u[..., :4], u[..., 4:]
        keys = torch.zeros(*u.shape[:-1], 4, 4)
        keys[..., 0] = 100 * place  # head i's first key channel is hot on quadrant i
        queries = torch.zeros_like(keys)
        queries[..., 0] = 1
        return queries.flatten(-2), keys.flatten(-2), colour.repeat(*[1] * (u.dim() - 1), 4)

    layer = BlockModules(4, identity, qkv, identity, identity, torch.zeros_like)
    half = (0.5, 0.5, 0.5)
    return Widened(name, "1", embed, [layer], identity, SIDE, (GRID, GRID), mean=half, std=half)


class Widened(Encoder):
    """Its feature is the head outputs alone: the residual of 8 channels is dropped."""

    def tail(self, z, residual, channels=None):
        return torch.nn.functional.normalize(z.flatten(-2), dim=-1)


def quarters(*colours):
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    for i, colour in enumerate(colours):
        y, x = divmod(i, 2)
        pixels[16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = colour
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    root = tmp_path_factory.mktemp("constructed")
    pictures = {
        "same-thing.png": quarters(RED, CYAN, PINK, CYAN),  # the red thing in another scene
        "same-scene.png": quarters(CYAN, GREEN, BLUE, YELLOW),  # the scene without the red thing
        "neither.png": quarters(PINK, PINK, YELLOW, BLUE),
    }
    (root / "pictures").mkdir()
    for name, image in pictures.items():
        image.save(root / "pictures" / name)
    build(Plan(root / "pictures", root / "index", "quadrants", heads=True, regions=None, device="cpu"))
    return Searcher.load(root / "index", device="cpu")


@pytest.fixture(scope="module")
def query(searcher, tmp_path_factory):
    path = tmp_path_factory.mktemp("query") / "query.png"
    quarters(RED, GREEN, BLUE, YELLOW).save(path)
    return searcher.open(path)


def first(hits):
    return hits.items[0].file


def test_the_whole_picture_finds_the_scene(searcher, query):
    assert first(searcher.search(Query(query))) == "same-scene.png"
    assert first(searcher.search(Query(query, Prompt.box(2, 2, 14, 14), method="cbir"))) == "same-scene.png"


@pytest.mark.parametrize(
    "prompt", [Prompt.box(2, 2, 14, 14), Prompt.point(8, 8), Prompt(mask=np.pad(np.ones((8, 8)), ((4, 20), (4, 20))))]
)
@pytest.mark.parametrize("mode", ["query", "query-db"])
def test_pointing_picks_the_head_that_looks_there_and_finds_the_thing(searcher, query, prompt, mode):
    hits = searcher.search(Query(query, prompt, options={"h_on": 1}, mode=mode))
    assert hits.heads == (0,)
    assert first(hits) == "same-thing.png"


@pytest.mark.parametrize(("corner", "head"), [((8, 8), 0), ((24, 8), 1), ((8, 24), 2), ((24, 24), 3)])
def test_each_corner_has_its_head(searcher, query, corner, head):
    assert searcher.search(Query(query, Prompt.point(*corner), options={"h_on": 1})).heads == (head,)


def test_query_db_scores_only_what_the_head_sees(searcher, query):
    hits = searcher.search(Query(query, Prompt.point(8, 8), options={"h_on": 1}, mode="query-db"))
    assert hits.scores[0] == pytest.approx(1.0, abs=1e-3)


def test_all_heads_are_the_whole_picture_again(searcher, query):
    pointed = searcher.search(Query(query, Prompt.point(8, 8), method="phs", options={"h_on": 4}))
    assert np.array_equal(pointed.scores, searcher.search(Query(query)).scores)


def test_two_things_at_once_pick_both_heads(searcher, query):
    both = Prompt(points=((8, 8), (24, 24)))
    assert searcher.search(Query(query, both, options={"h_on": 2})).heads == (0, 3)


@pytest.mark.parametrize("method", ["mask", "crop", "attention_mask"])
def test_rivals_that_hide_the_scene_also_find_the_thing(searcher, query, method):
    hits = searcher.search(Query(query, Prompt.box(0, 0, 16, 16), method=method))
    assert hits.heads is None
    assert np.isfinite(hits.scores).all()
