"""Pointing with regions: sums by hand, leave-one-out, what is kept between runs."""

from dataclasses import replace

import numpy as np
import pytest

from eval.datasets.things import point_at_things
from eval.experiments import region_ranking, region_vectors
from eval.experiments.region_ranking import ALL, Setting
from eval.experiments.region_retrieval import RegionRetrieval
from eval.experiments.region_vectors import METHODS, PARTS
from eval.experiments.results_cache import ResultsCache
from eval.experiments.specs import RunContext
from foir.methods import intervene
from foir.patches import rasterise
from foir.prompts import Prompt
from foir.regions.encoder import RegionEncoder
from foir.regions.recipe import RegionRecipe

ROWS = (
    *(Setting(method=method) for method in METHODS),
    *(Setting(way) for way in ("masked", "pooled", "blended")),
    Setting("blended", "attention_mask|phs", 0.2, 4),
)
TABLE = RegionRetrieval("made", "made", ("made",), ("toy",), ROWS, by_size=True)


@pytest.fixture(scope="module")
def things(made):
    return replace(made, queries=point_at_things(made).queries)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return RunContext(results=tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def table(made, toy, kept):
    return TABLE.measure(made, toy, kept)


def values(cells, metric="MP@10"):
    return {(cell.method, *cell.options.items()): cell.value for cell in cells if cell.metric == metric}


def test_a_row_is_the_sum_of_best_region_and_global_vector(things, toy, table, kept):
    """Every picture encoded alone by the product's own recipe, standardised and ranked by hand."""
    mean = region_vectors.gallery_regions(toy, things, "whole", kept.cache).mean
    recipe = RegionRecipe(way="blended", limit=4, mean=tuple(mean.tolist()))
    regions, prefixes = RegionEncoder(toy, recipe), [toy.prefix(toy.pixels([load()])) for load in things.gallery]
    gallery = [regions.encode(prefix)[0].vectors for prefix in prefixes]
    plain = np.stack([toy.finish(prefix).vectors[0].numpy() for prefix in prefixes])
    per_class: dict = {}
    for query in things.queries:
        image = things.query_images[query.image]()
        prompt = query.prompt.fit(image.size)
        mask = rasterise(prompt, image.size, toy.grid)
        own = regions.encode_query(image, prefixes[query.image], mask)[0]
        step = [intervene("attention_mask|phs", prompt, mask)]
        whole = toy.features(image, step, prefixes[query.image]).vectors[0].numpy()
        best, context = np.array([(vectors @ own).max() for vectors in gallery]), plain @ whole
        scores = 0.8 * (best - best.mean()) / best.std() + 0.2 * (context - context.mean()) / context.std()
        others = [row for row in np.argsort(-scores) if row != query.image][:10]
        per_class.setdefault(query.category, []).append(things.labels[others, query.category].mean())
    by_hand = 100 * np.mean([np.mean(each) for each in per_class.values()])
    default = [cell for cell in table if cell.options.get("global") and cell.metric == "MP@10"][0]
    assert default.value == pytest.approx(by_hand, abs=0.6)  # float16 may swap near-ties
    assert default.options == {"vectors": 4, "context": 0.2, "global": "attention_mask|phs"}


def test_every_row_is_compared_with_cbir_and_the_best_of_the_papers(table):
    whole = values([cell for cell in table if "size" not in cell.options])
    best = max((value, method) for (method, *_), value in whole.items() if method in METHODS[1:])[1]
    names = {cell.metric for cell in table if cell.metric.startswith("MP") and "size" not in cell.options}
    assert names == {"MP@10", "MP@10 minus cbir", f"MP@10 minus {best}"}
    assert len(whole) == len(ROWS)


def test_sizes_share_the_things(table):
    counts = {cell.options.get("size"): cell.n for cell in table}
    total = counts.pop(None)
    assert sum(counts.values()) == total and set(counts) <= {"1 to 3 %", "3 to 10 %", "10 to 30 %"}


def test_the_query_picture_is_never_a_result(things, toy, kept):
    """Each picture is the only one of a class of its own: whatever else is found is wrong."""
    alone = replace(
        things,
        labels=np.eye(24, dtype=bool),
        queries=tuple(replace(query, category=query.image) for query in things.queries),
        categories=tuple(map(str, range(24))),
    )
    assert set(values(TABLE.measure(alone, toy, kept)).values()) == {0}
    found = values(TABLE.measure(replace(alone, leave_one_out=False), toy, kept))
    assert found["cbir",] == pytest.approx(10)


def test_other_limits_and_data_sets_of_the_same_pictures_encode_nothing(things, toy, kept, table, monkeypatch):
    def encode(*args):
        raise AssertionError("it encodes")

    for module, name in ((region_vectors, "_encode"), (region_vectors, "_thing")):
        monkeypatch.setattr(module, name, encode)
    rows = (Setting("blended", limit=ALL), Setting("blended", limit=1), Setting("masked", "foveal", 0.3))
    fewer = replace(things, queries=things.queries[3:], categories=("other",) * 4)
    cells = RegionRetrieval("k", "", (), (), rows, "all windows").measure(fewer, toy, kept)
    assert {cell.metric for cell in cells} == {"MP@10", "MP@10 minus all windows", "bytes a picture"}
    sizes = [cell.value or 0 for cell in cells if cell.metric == "bytes a picture"]
    assert sizes[1] == 4 + 2 * 48 + 8 and sizes[0] > sizes[2] > sizes[1]


def test_nothing_depends_on_batches_and_chunks(made, toy, table, monkeypatch, tmp_path):
    for module, name, size in (
        (region_vectors, "BATCH", 5),
        (region_vectors, "CHUNK", 7),
        (region_ranking, "BLOCK", 3),
    ):
        monkeypatch.setattr(module, name, size)
    again = TABLE.measure(made, toy, RunContext(results=tmp_path))
    for one, other in zip(table, again, strict=True):
        assert other.metric == one.metric and other.value == pytest.approx(one.value, abs=1.5)


def test_blended_is_the_sum_that_the_product_makes(things, toy, kept):
    parts = region_vectors.gallery_regions(toy, things, "whole", kept.cache)
    assert set(parts.parts) == set(PARTS)
    prefix = toy.prefix(toy.pixels([things.gallery[0]()]))
    recipe = RegionRecipe(limit=ALL, mean=tuple(parts.mean.tolist()))
    (picture,) = RegionEncoder(toy, recipe).encode(prefix)
    blended = region_vectors.blend(parts.parts, "blended", parts.mean)[: len(picture.vectors)]
    assert (np.sum(blended * picture.vectors, 1) > 0.9999).all()


@pytest.mark.parametrize("views", ["tiles", "crops"])
def test_more_views_have_more_regions(things, toy, tmp_path, monkeypatch, views):
    monkeypatch.setattr("foir.small_objects.detect.load", lambda encoder: lambda image: [])
    few = replace(things, gallery=things.gallery[:4], labels=things.labels[:4], query_images=things.query_images[:4])
    few = replace(few, queries=tuple(query for query in things.queries if query.image < 4))
    whole = region_vectors.gallery_regions(toy, few, "whole", ResultsCache(tmp_path))
    found = region_vectors.gallery_regions(toy, few, views, ResultsCache(tmp_path), whole.mean)
    assert (found.counts == whole.counts * (5 if views == "tiles" else 1)).all()
    row = RegionRetrieval("views", "", (), (), (Setting("blended"), Setting("blended", views=views)), "whole")
    cells = row.measure(few, toy, RunContext(results=tmp_path))
    assert [cell.options.get("views") for cell in cells if cell.metric == "MP@10"] == [None, views]


def test_a_box_that_is_reversed_or_cut_is_one_thing(things, toy, tmp_path):
    boxes = (Prompt.box(70, 80, 10, 10), Prompt.box(-20, -10, 40, 70))
    odd = [(i, replace(things.queries[i], prompt=box)) for i, box in enumerate(boxes)]
    found = region_vectors.thing_vectors(toy, things, odd, ("cbir", *PARTS), ResultsCache(tmp_path))
    assert found["masked"].shape == (2, 48) and found["share"] == pytest.approx([4200 / 19200, 2800 / 19200])
