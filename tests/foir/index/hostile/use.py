"""What a page, a command and a writer do with an index that they were given."""

import json
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from foir import clustering, images
from foir.errors import BadImage, FoirError
from foir.index import Index
from foir.ranking import exact
from foir.ranking.feedback import Judgements, relevance
from foir.ranking.regions import best_regions, best_scores
from foir.regions.views import to_pixels
from index_build import maintenance, update
from tests.kill_points import StandIn

ANSWER = 16 * 2**20  # bytes of JSON for a thousand images, far beyond what a page could send


def fault(error: FoirError) -> str:
    """What is wrong with a message; nothing if it is one sentence that a terminal can show."""
    text, cause, bomb = str(error), error.__context__, False
    while cause is not None:
        bomb, cause = bomb or isinstance(cause, MemoryError), cause.__context__
    if bomb:
        return "memory that only the limit kept from being taken"
    if not text.endswith(".") or ". " in text or len(text) > 500:
        return f"no sentence: {text[:200]!r}"
    return "" if text.isprintable() else f"a message that is no text: {text[:200]!r}"


def search(index: Index) -> None:
    for space in index.spaces.values():
        query = space.reference_feature / np.linalg.norm(space.reference_feature)
        found = exact.search(space.shards, query[None].astype(np.float32), 1)  # by the scan in half precision
        assert len(found.rows[0]) == 1, "too few results"
        assert (np.abs(found.scores) < 1.01).all(), f"a cosine of {found.scores[0].tolist()}"
        several = exact.search(space.shards, np.stack([query, -query]).astype(np.float32), 5)
        assert np.isfinite(several.scores).all(), "a score that is no number"
        liked = np.asarray(space.shards[0][:2], np.float32)
        judged = relevance(space.shards, Judgements(liked[:1], liked[1:], query.astype(np.float32)))
        assert np.isfinite(judged).all(), "a relevance that is no number"


def regions(index: Index) -> None:
    if index.regions is None:
        return
    query = index.space().reference_feature[None]
    scores = best_scores(index.regions, query)
    assert len(scores) == len(index) and (np.abs(scores) < 1.01).all(), "a region's cosine that is none"
    for found in best_regions(index.regions, [0, len(index) - 1], query):
        x0, y0, x1, y1 = to_pixels(found.box, (32, 24))
        assert 0 <= x0 <= x1 <= 32 and 0 <= y0 <= y1 <= 24, "a box that is none"


def rows(index: Index) -> None:
    items = index.items()
    assert len(items) == len(index) == len({item.id for item in items}), "images without an id of their own"
    for item in (*items[:3], *items[-3:], *index.sample(5)):
        assert index.get(item.id) == item and index.row(item.id) >= 0
        assert np.isfinite(index.vectors("image", [item.id])).all(), "a vector that is no number"
        if index.space().z:
            assert np.isfinite(index.head_outputs(item.id)).all(), "a head that is no number"
    clustering.near_duplicates(index.vectors("image", [item.id for item in items[:50]]))
    index.subset([0])


def answers(index: Index) -> None:
    items, sent = index.items()[:1000], 0
    for item in items:
        assert item.width > 0 and item.height > 0, "a picture without pixels"
        sent += len(json.dumps({**vars(item), "name": item.name}, ensure_ascii=False, allow_nan=False).encode())
        assert sent < ANSWER, "an answer that no browser reads"
    told = [index.rejected(), index.source_counts(), {name: space.encoder for name, space in index.spaces.items()}]
    assert len(json.dumps(told, ensure_ascii=False, allow_nan=False).encode()) < ANSWER, "a list that no browser reads"
    for entry in index.rejected():
        assert isinstance(entry["file"], str) and isinstance(entry["reason"], str), "a reason that is no text"
    assert index.bytes > 0
    index.excluded_mask({"file": "a", "caption": "b", "width": 32})


def objects(index: Index) -> None:
    sent = 0
    for item in index.items()[:50]:
        for known in index.objects(item.id):
            sent += len(json.dumps(vars(known), ensure_ascii=False, allow_nan=False).encode())
            assert sent < ANSWER, "an answer that no browser reads"
            x0, y0, x1, y1 = known.box
            assert x0 <= x1 and y0 <= y1, "a box that is none"


def pictures(index: Index) -> None:
    folder = index.folder.resolve()
    for item in index.items()[:20]:
        for find in (index.thumb, index.picture):
            try:
                path = find(item)
            except FoirError as error:
                assert not (wrong := fault(error)), wrong
                continue
            assert path.resolve().is_relative_to(folder), f"{path.resolve()} lies outside the index"
            with suppress(BadImage):
                images.read(path)


def verify(index: Index) -> None:
    maintenance.find_damage(index.folder)


def remove(index: Index) -> None:
    update.remove(index.folder, [index.item(0).file])


def refresh(index: Index) -> None:
    update.update(index.folder, encoders=StandIn())
    more = len(Index.open(index.folder)) - len(index)
    assert more <= 0, f"{more} pictures of the owner's were taken in"


def collect(index: Index) -> None:
    maintenance.gc(index.folder)


STEPS: tuple[Callable[[Index], None], ...] = (search, regions, rows, answers, objects, pictures)
MAY_REFUSE: tuple[Callable[[Index], None], ...] = (verify, refresh, remove, verify, collect)
