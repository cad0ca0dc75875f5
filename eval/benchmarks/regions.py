"""What regions cost: seconds and bytes of a build, seconds of a query, and the scan of a large collection."""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from foir import encoders
from foir.encoders.base import Encoder
from foir.images import Photo
from foir.index import Index, Regions, graph
from foir.playroom import compose
from foir.prompts import Prompt
from foir.ranking.regions import best_scores
from foir.regions.recipe import RegionRecipe
from foir.search.query import Query
from foir.search.scoring import NEAR
from foir.search.searcher import Searcher
from index_build.encoding import LoadedEncoders
from index_build.pipeline import Plan, build

from ..report.results import markdown_table
from .index import JITTER, memory
from .timing import median_seconds, timed

PICTURES, ROUNDS = 96, 3  # scenes of an index, and builds of each kind
QUERIES = 16
NEAREST = 100  # pictures whose recall is measured
LARGE, SHARD = 118_287, 1024  # pictures, as many as COCO's train2017 has, and those of a shard
THREADS = 2


def main(pictures: int = PICTURES, rounds: int = ROUNDS, large: int = LARGE) -> str:
    """Measure `mini`; returns Markdown tables."""
    encoder = encoders.load("mini", device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lines = [*build_and_query(encoder, folder, pictures, rounds), ""]
        regions = Index.open(folder / "with").regions
        if regions is None:
            raise TypeError("an index that was built with regions has them")
        many = repeated(regions, large, folder)
        return "\n".join([*lines, *scan(many, large), *search_graph(many, folder)])


def build_and_query(encoder: Encoder, folder: Path, pictures: int, rounds: int) -> list[str]:
    """Build with and without regions in alternation in `folder`, and search both indexes."""
    (folder / "pictures").mkdir()
    for number in range(pictures):
        compose("gallery", number).image.save(folder / "pictures" / f"{number}.jpg", quality=92)
    recipes = {"with": RegionRecipe(), "without": None}
    loaded = {name: LoadedEncoders({"image": encoder}, recipe) for name, recipe in recipes.items()}

    def rebuild(name: str) -> None:
        number = len(list(folder.glob(f"{name}-*")))
        plan = Plan(folder / "pictures", folder / f"{name}-{number}", encoder.name, regions=recipes[name])
        build(plan, loaded[name])

    seconds = median_seconds({name: partial(rebuild, name) for name in recipes}, rounds, warm_up=True)
    for name in recipes:
        (folder / f"{name}-0").rename(folder / name)
    stored = {name: sum(path.stat().st_size for path in (folder / name).rglob("*.safetensors")) for name in recipes}
    searched = {name: _query_seconds(Searcher(Index.open(folder / name), encoder)) for name in recipes}
    rows = [
        (name, f"{1e3 * seconds[name] / pictures:.0f}", f"{stored[name] / pictures:.0f}", f"{1e3 * searched[name]:.1f}")
        for name in recipes
    ]
    names = ("regions", "build, ms a picture", "vectors, bytes a picture", "search on an open picture, ms")
    ratio = seconds["with"] / seconds["without"]
    return [
        f"{pictures} composed scenes, {rounds} builds of each kind in alternation, {RegionRecipe().limit} regions.",
        "", *markdown_table(names, rows), "",
        f"A build with regions takes {ratio:.2f} times one without.",
    ]  # fmt: skip


def repeated(regions: Regions, pictures: int, folder: Path, seed: int = 0) -> Regions:
    """Real regions repeated to so many pictures, each with its own noise, in memory-mapped files of `folder`."""
    rng = np.random.default_rng(seed)
    vectors = np.concatenate([np.asarray(shard, np.float32) for shard in regions.vectors])
    starts = np.concatenate([[0], *(np.diff(shard) for shard in regions.starts)]).cumsum()
    spans, noise = list(pairwise(starts.tolist())), JITTER * vectors.std(0)
    shards, boxes, begins = [], [], []
    for first in range(0, pictures, SHARD):
        own = [spans[picture % len(spans)] for picture in range(first, min(first + SHARD, pictures))]
        rows = np.concatenate([np.arange(*span) for span in own])
        batch = vectors[rows] + noise * rng.standard_normal((len(rows), vectors.shape[1]), np.float32)
        path = folder / f"repeated-{first}.npy"
        np.save(path, (batch / np.linalg.norm(batch, axis=1, keepdims=True)).astype(np.float16))
        shards.append(np.load(path, mmap_mode="r"))
        boxes.append(np.zeros((len(rows), 4), np.uint16))
        begins.append(np.cumsum([0, *(stop - start for start, stop in own)]).astype(np.int32))
    return Regions(regions.recipe, tuple(shards), tuple(boxes), tuple(begins))


def scan(regions: Regions, pictures: int) -> list[str]:
    """Time exact scans for one thing, with memory warm."""
    before, threads = memory("VmRSS"), torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        best_scores(regions, _row(regions, 0))
        seconds = [timed(partial(best_scores, regions, _row(regions, 1 + n)))[1] for n in range(QUERIES)]
    finally:
        torch.set_num_threads(threads)
    size = sum(shard.nbytes for shard in regions.vectors) / 1e9
    count = sum(map(len, regions.vectors))
    return [
        f"{pictures:,} pictures with {count:,} region vectors of {regions.vectors[0].shape[1]} float16, {size:.2f} GB: "
        "real ones repeated with noise.",
        f"One exact scan on {THREADS} threads with memory warm: {statistics.median(seconds):.3f} s (median of "
        f"{QUERIES}, fastest {min(seconds):.3f}).",
        f"Resident memory {memory('VmRSS'):.2f} GB, {before:.2f} before the first scan.",
    ]


def search_graph(regions: Regions, folder: Path) -> list[str]:
    """Build the graph over the same regions, and compare the pictures that it finds with those of an exact scan."""
    dim, path = regions.vectors[0].shape[1], folder / "graph.usearch"
    started, first = time.perf_counter(), 0
    built = graph.open_for_change(None, dim)
    for vectors, starts in zip(regions.vectors, regions.starts, strict=True):
        built.add(graph.keys(range(first, first + len(starts) - 1), np.diff(starts)), np.asarray(vectors))
        first += len(starts) - 1
    built.save(str(path))
    minutes = (time.perf_counter() - started) / 60
    opened, rng, seconds, recalls = graph.RegionGraph(path, dim), np.random.default_rng(1), [], []
    for number in range(QUERIES):
        query = _row(regions, (1 + 97 * number) % len(regions.vectors[0]))
        query = query + JITTER * query.std() * rng.standard_normal(query.shape, np.float32)
        best = np.argsort(-best_scores(regions, query), kind="stable")[:NEAREST]
        found, spent = timed(partial(_near_scores, regions, opened, query))
        seconds.append(spent)
        recalls.append(float(np.isin(best, found).mean()))
    return [
        f"A graph of USearch ({graph.DTYPE}, {path.stat().st_size / 1e9:.2f} GB) was built in {minutes:.1f} min. "
        f"Its {NEAR} nearest regions, with exact scores of their pictures, take {statistics.median(seconds):.4f} s. "
        f"It finds {statistics.mean(recalls):.4f} of the {NEAREST} pictures with the best regions (mean of {QUERIES})."
    ]


def _near_scores(regions: Regions, opened: graph.RegionGraph, query: np.ndarray) -> list[int]:
    """The pictures that a graph finds, once their best regions are scored exactly."""
    rows = opened.near(query, NEAR)
    best_scores(regions.subset(rows), query)
    return rows


def _row(regions: Regions, number: int) -> np.ndarray:
    return np.asarray(regions.vectors[0][number : number + 1], np.float32)


def _query_seconds(searcher: Searcher) -> float:
    """Median seconds of a search by a box on an open picture; regions count where the index has them."""
    spent = []
    for number in range(QUERIES):
        scene = compose("held-out", number)
        image, prompt = searcher.open(Photo(scene.image)), Prompt.box(*scene.objects[0].box)
        spent.append(timed(partial(searcher.search, Query(image, prompt)))[1])
    return statistics.median(spent)
