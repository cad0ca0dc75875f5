"""Values of the page's custom components, in the form that their scripts draw (assets/*.js)."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from PIL import Image

from foir import clustering, collection_map
from foir.app.sentences import facts_line, query_summary, results_note
from foir.app.sessions import Session
from foir.duplicates import DuplicateGroup, find_duplicates
from foir.errors import BadPrompt
from foir.index import Index, Item
from foir.index.protocol import IndexLike
from foir.search import explain
from foir.search.results import SearchResults

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

SAMPLES, CANDIDATES = 6, 60  # sample images, chosen from so many
MAX_GROUPS = 200  # of duplicates, on the page
HEAT_SIDE = 48  # pixels; the browser scales heat maps up smoothly
OUTLINE_SIDE = 480
TINT = (255, 181, 46, 110)
TOP_HEADS = 3  # heads named in an explanation


class Views:
    """Values of the components for one collection. Holds no state of any user."""

    def __init__(self, index: IndexLike, key: str, *, serves_files: bool = False) -> None:
        """Bind to the index of the collection `key`, and choose sample images; see `Controller`."""
        self.index, self._key, self.serves_files = index, key, serves_files
        self._finding = Lock()
        self._found: list[DuplicateGroup] | None = None
        candidates = index.sample(CANDIDATES)
        self._samples = random.Random(7).sample(candidates, min(SAMPLES, len(candidates)))  # noqa: S311 - no secret

    def pointer(self, session: Session, heat: np.ndarray | None) -> dict[str, Any]:
        """The query image with its marks, heat map [rows, cols], outline, suggestions and sample images."""
        photo, prompt, results = session.image.photo, session.prompt, session.results
        size = session.preview[1]
        marks = None
        if prompt is not None:
            strokes = [{"path": s.path, "width": s.width} for s in prompt.strokes]
            marks = {"points": prompt.points, "boxes": prompt.boxes, "strokes": strokes}
        mask = results.mask if results is not None and session.outlined else None
        return {
            "url": f"photo/{session.token}",
            "token": session.token,
            "width": photo.size[0],
            "height": photo.size[1],
            "name": session.name,
            "prompt": marks,
            "heat": _heat_url(heat, size),
            "outline": None if mask is None else _mask_url(mask.pixels, size),
            "summary": query_summary(session),
            "suggestions": session.suggestions,
            "samples": [self._card(item) for item in self._samples],
        }

    def results(self, session: Session, heats: Sequence[np.ndarray | None] = ()) -> dict[str, Any]:
        """The results: a note, and one card for each hit; near duplicates share a card.

        Args:
            session: The session.
            heats: Heat maps [rows, cols] of the first hits.
        """
        results = session.results
        if results is None:
            return {"hits": [], "note": ""}
        originals = clustering.near_duplicates(self.index.vectors("image", [item.id for item in results.items]))
        cards: dict[int, dict[str, Any]] = {}
        similarities = results.similarities
        for i, item in enumerate(results.items):
            if originals[i] != i:
                cards[originals[i]]["copies"].append(item.name)
                continue
            heat = _heat_url(heats[i] if i < len(heats) else None, (item.width, item.height))
            score = None if similarities is None else float(similarities[i])
            similar = results.likely is not None and i >= results.likely
            about = {"score": score, "heat": heat, "regions": _regions(results, i), "similar": similar, "copies": []}
            cards[i] = {**self._card(item), **about}
        return {
            "hits": list(cards.values()),
            "note": " ".join((results_note(session), *results.notes)),
            "method": session.method_title,
            "feedback": {"liked": session.judgements.liked, "disliked": session.judgements.disliked},
            "rounds": len(session.rounds),
        }

    def heads(self, session: Session, encoder: Encoder) -> dict[str, Any]:
        """The attention map of each head on the query image, and whether the search uses the head."""
        results = session.results
        if results is None or results.features is None or session.prompt is None:
            return {"heads": [], "note": "Mark an object to see the attention of each head."}
        if not results.is_full_view:
            return {"heads": [], "note": "This method crops the image, so no head attends to all of it."}
        size = session.preview[1]
        gate = results.features.gates[0]
        kept = range(encoder.heads) if gate is None else gate.on
        heads = [
            {
                "heat": _heat_url(explain.head_heat(encoder, results.features, head), size),
                "on": head in kept,
                "forced": head in session.forced_heads,
            }
            for head in range(encoder.heads)
        ]
        note = "Bright areas get the most attention. Outlined heads are used. Press a head to switch it on or off."
        return {
            "token": session.token,
            "url": f"photo/{session.token}",
            "ratio": size[0] / size[1],
            "heads": heads,
            "fixed": gate is None,
            "note": "This method uses every head." if gate is None else note,
        }

    def explanation(self, session: Session, place: int, heat: np.ndarray | None) -> dict[str, Any]:
        """Why the result at a place was found: heat map, region, score, and the kept heads of highest similarity."""
        results = session.results
        if results is None:
            raise TypeError("only results are explained")
        item, similarities = results.items[place], results.similarities
        lines = [] if heat is None else ["The brightest areas are most similar to the object you marked."]
        if session.texts.get("text"):
            lines.append(f"You searched for the text \u201c{session.texts['text']}\u201d.")
        if session.is_judged:
            lines.append("The ranking uses your feedback.")
        if similarities is not None:
            of_what = " of the outlined region" if results.regions else ""
            lines.append(f"Similarity{of_what}: {100 * float(similarities[place]):.1f} of 100.")
        if results.likelihoods is not None:
            lines.append(f"It holds what you search for with a likelihood of {100 * results.likelihoods[place]:.0f} %.")
        top_heads = self._top_heads(session, item)
        if top_heads:
            heads = ", ".join(f"head {head + 1} ({100 * cosine:.0f})" for head, cosine in top_heads)
            lines.append(f"Most similar in the selected heads: {heads}.")
        lines += [line for line in [facts_line(item)] if line]
        heat_url = _heat_url(heat, (item.width, item.height))
        regions = _regions(results, place)
        return {
            **self._card(item),
            "heat": heat_url,
            "regions": regions,
            "lines": lines,
            "link": self._link(item),
            "nonce": uuid4().hex,
        }  # opens again if unchanged

    def _top_heads(self, session: Session, item: Item) -> list[tuple[int, float]]:
        """The kept heads whose outputs on query and result are most similar, with cosines; needs a head cache."""
        results = session.results
        if results is None or results.features is None or not self.index.space("image").z or not results.heads:
            return []
        result_outputs = self.index.head_outputs(item.id)
        query_outputs = results.features.z[0].float().cpu().numpy()
        norms = np.linalg.norm(query_outputs, axis=1) * np.linalg.norm(result_outputs, axis=1)
        cosines = (query_outputs * result_outputs).sum(1) / np.maximum(norms, 1e-12)
        top_heads = sorted(results.heads, key=lambda head: -cosines[head])[:TOP_HEADS]
        return [(head, float(cosines[head])) for head in top_heads]

    def _link(self, item: Item) -> dict[str, str] | None:
        """Where the image itself can be seen, and what the link says."""
        if item.link is not None:
            return {"url": item.link, "text": "Open in Immich"}
        if not self.serves_files:
            return None
        url = f"file/{self._key}/{item.id}"
        if item.time is None:
            return {"url": url, "text": "Open the file"}
        return {"url": f"{url}#t={item.time:g}", "text": f"Open the video at {item.clock}"}

    @cached_property
    def _collection_map(self) -> collection_map.CollectionMap:
        return collection_map.build_map(self.index)

    def map(self) -> dict[str, Any]:
        """The map of the collection: points [x, y, group, id], and name, size and central image of each group."""
        built = self._collection_map
        points = [
            [round(float(x), 4), round(float(y), 4), int(cluster), int(id)]
            for (x, y), cluster, id in zip(built.positions, built.clusters, built.ids, strict=True)
        ]
        groups = [
            {"name": name or f"group {number + 1}", "size": int((built.clusters == number).sum()), "id": centre}
            for number, (name, centre) in enumerate(zip(built.names, built.centres, strict=True))
        ]
        return {"points": points, "groups": groups}

    @property
    def _groups(self) -> list[DuplicateGroup]:
        with self._finding:
            if self._found is None:
                self._found = find_duplicates(self.index) if isinstance(self.index, Index) else []
            return self._found

    def duplicates(self) -> dict[str, Any]:
        """Groups of duplicates, the best of each first."""
        groups = [
            {"kind": each.kind, "items": [{**self._card(item), "file": item.file} for item in each.items]}
            for each in self._groups[:MAX_GROUPS]
        ]
        shared = {"key": self._key, "can_discard": self.serves_files, "count": len(self._groups)}
        return {"groups": groups, **shared}

    def spare_files(self, ids: Any) -> list[Path]:
        """The files of some images, which must be duplicates beside the best of their groups.

        Raises:
            BadPrompt: One is not, or a file or the best of its group is no longer what was indexed.
        """
        best = {item.id: (group.items[0], item) for group in self._groups for item in group.items[1:]}
        if not isinstance(ids, list) or not ids or not all(type(id) is int and id in best for id in ids):
            raise BadPrompt("Only duplicates beside the best one can be moved to the trash.")
        files = []
        for id in dict.fromkeys(ids):
            kept, spare = (_unchanged(self.index, item) for item in best[id])
            if kept is None or spare is None or spare.is_symlink() or spare.samefile(kept):
                raise BadPrompt("A file changed since it was indexed: bring the collection up to date first.")
            files.append(spare)
        return files

    def _card(self, item: Item) -> dict[str, Any]:
        size = [item.width, item.height]
        return {"id": item.id, "name": item.name, "size": size, "url": thumb_url(self._key, item)}


def _unchanged(index: IndexLike, item: Item) -> Path | None:
    """The file of an item, if it is what was indexed."""
    path = index.original(item) if isinstance(index, Index) else None
    if path is None:
        return None
    facts = path.stat()
    return path if (facts.st_size, facts.st_mtime_ns) == (item.bytes, item.modified) else None


def _regions(results: SearchResults, place: int) -> list[list[float]]:
    """Boxes [x, y, width, height] of a result's best regions, in percent of its width and height."""
    if not results.regions:
        return []
    item = results.items[place]
    scale = np.array([item.width, item.height, item.width, item.height]) / 100
    corners = [np.array(region.box) / scale for region in results.regions[place]]
    return [[round(float(edge), 2) for edge in (x0, y0, x1 - x0, y1 - y0)] for x0, y0, x1, y1 in corners]


def thumb_url(collection: str, item: Item) -> str:
    """URL of a thumbnail, relative to the page."""
    return f"thumb/{collection}/{item.id}"


def encode_image(image: Image.Image, kind: str) -> bytes:
    """Encode an image as a file."""
    out = io.BytesIO()
    image.save(out, kind, quality=88)
    return out.getvalue()


def _data_url(image: Image.Image) -> str:
    """A PNG file as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(encode_image(image, 'PNG')).decode()}"


def _scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A (width, height) whose longer side is `side` pixels."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _heat_url(heat: np.ndarray | None, size: tuple[int, int]) -> str | None:
    """A heat map [rows, cols] as a data URL, in the ratio of (width, height)."""
    return None if heat is None else _data_url(explain.shade(heat, _scaled(size, HEAT_SIDE)))


def _mask_url(mask: np.ndarray, size: tuple[int, int]) -> str:
    """A mask [H, W] as a translucent tint, in the ratio of (width, height)."""
    shape = _scaled(size, OUTLINE_SIDE)
    alpha = Image.fromarray((mask * TINT[3]).astype(np.uint8)).resize(shape, Image.Resampling.BILINEAR)
    tinted = Image.new("RGBA", shape, TINT[:3])
    tinted.putalpha(alpha)
    return _data_url(tinted)
