"""Values of the page's custom components, in the form that their scripts draw (assets/*.js)."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from PIL import Image

from foir import clustering, collection_map
from foir.app.sessions import Session
from foir.index import Item
from foir.index.protocol import IndexLike
from foir.search import explain
from foir.search.results import SearchResults

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

SAMPLES, CANDIDATES = 6, 60  # sample images, chosen from so many
HEAT_SIDE = 48  # pixels; the browser scales heat maps up smoothly
OUTLINE_SIDE = 480
TINT = (255, 181, 46, 110)
TOP_HEADS = 3  # heads named in an explanation


class Views:
    """Values of the components for one collection. Holds no state of any user."""

    def __init__(self, index: IndexLike, key: str, *, serves_files: bool = False) -> None:
        """Bind to the index of the collection `key`, and choose sample images; see `Controller`."""
        self.index, self._key, self.serves_files = index, key, serves_files
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
            cards[i] = {**self._card(item), "score": score, "heat": heat, "regions": _regions(results, i), "copies": []}
        return {
            "hits": list(cards.values()),
            "note": " ".join((_results_note(session), *results.notes)),
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

    def _card(self, item: Item) -> dict[str, Any]:
        size = [item.width, item.height]
        return {"id": item.id, "name": item.name, "size": size, "url": thumb_url(self._key, item)}


def _regions(results: SearchResults, place: int) -> list[list[float]]:
    """Boxes [x, y, width, height] of a result's best regions, in percent of its width and height."""
    if not results.regions:
        return []
    item = results.items[place]
    scale = np.array([item.width, item.height, item.width, item.height]) / 100
    corners = [np.array(region.box) / scale for region in results.regions[place]]
    return [[round(float(edge), 2) for edge in (x0, y0, x1 - x0, y1 - y0)] for x0, y0, x1, y1 in corners]


def facts_line(item: Item) -> str:
    """What an image says about itself, in one sentence; empty where it says nothing."""
    parts = []
    if item.taken is not None and item.taken_from == "exif":
        parts.append(f"taken {datetime(1970, 1, 1) + timedelta(seconds=item.taken):%Y-%m-%d %H:%M}")
    if item.camera:
        parts.append(f"with {item.camera}" if parts else f"taken with {item.camera}")
    line = " ".join(parts)
    if item.rating:
        line += f"{', ' if line else ''}{item.rating} of 5 stars"
    if item.keywords:
        line += f"{', ' if line else ''}tagged {item.keywords.replace(chr(10), ', ')}"
    return f"{line[:1].upper()}{line[1:]}." if line else ""


def thumb_url(collection: str, item: Item) -> str:
    """URL of a thumbnail, relative to the page."""
    return f"thumb/{collection}/{item.id}"


def query_summary(session: Session) -> str:
    """One line about the marks and the heads that are used; empty without a prompt."""
    results, prompt = session.results, session.prompt
    if results is None or results.mask is None or prompt is None:
        return ""
    counts = (("point", prompt.points), ("box", prompt.boxes), ("stroke", prompt.strokes))
    marks = " and ".join(_count(len(made), name) for name, made in counts if made)
    share = 100 * float(results.mask.pixels.mean())
    size = f"{share:.0f} %" if share >= 1 else "less than 1 %"
    outlined = ", extended to the whole object" if session.outlined else ""
    line = f"{marks}{outlined}: {size} of the image."
    if results.heads is not None and results.features is not None:
        heads = f"{len(results.heads)} of {results.features.z.shape[1]} attention heads"
        line += f" {heads} are used." if session.forced_heads else f" The {heads} that attend to it most are used."
    return line[:1].upper() + line[1:]


def _count(count: int, name: str) -> str:
    plural = f"{name}es" if name.endswith("x") else f"{name}s"
    return f"a {name}" if count == 1 else f"{count} {plural}"


def _results_note(session: Session) -> str:
    """What the results are, in one sentence."""
    text, negative_text = session.texts.get("text"), session.texts.get("negative_text")
    ranking = f", without \u201c{negative_text}\u201d" if negative_text else ""
    ranking += ", ranked with your feedback" if session.is_judged else ""
    if session.results is None or session.results.mask is None:
        return f"Images of \u201c{text}\u201d{ranking}, best first."
    also = f" and \u201c{text}\u201d" if text else ""
    if session.prompt is not None:
        return f"Images with the object you marked{also}{ranking}, best first."
    return f"Images similar to this one{also}{ranking}. Draw a box around an object to search for it."


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
