"""What the parts of the page show, as the values that their scripts draw (assets/page/*.js)."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from foir import clustering, collection_map
from foir.app.sessions import Session
from foir.index import Item
from foir.index.protocol import IndexLike

if TYPE_CHECKING:
    from PIL import Image

    from foir.encoders.base import Encoder

SAMPLES, SPREAD = 6, 60  # pictures to begin with, chosen of so many
HEAT_SIDE = 48  # heat maps travel small and are scaled up smoothly by the browser
OUTLINE_SIDE = 480
TINT = (255, 181, 46, 110)
AGREEING = 3  # heads that are named as those which find a result most alike


class Panels:
    """The values of the page's parts. Holds no state of any visitor."""

    def __init__(self, index: IndexLike, key: str) -> None:
        """Bind them to an index, the collection of this key, and choose a few pictures of it to begin with."""
        self.index, self._key = index, key
        choice = index.sample(SPREAD)
        self._samples = random.Random(7).sample(choice, min(SAMPLES, len(choice)))  # noqa: S311 - a choice of pictures

    def pointer(self, session: Session, heat: np.ndarray | None) -> dict[str, Any]:
        """The picture to point at, what is pointed at, and what else could be opened."""
        photo, prompt, hits = session.picture.photo, session.prompt, session.hits
        size = session.shown[1]
        marks = None
        if prompt is not None:
            strokes = [{"path": s.path, "width": s.width} for s in prompt.strokes]
            marks = {"points": prompt.points, "boxes": prompt.boxes, "strokes": strokes}
        mask = hits.mask if hits is not None and session.outlined else None
        return {
            "url": f"photo/{session.token}",
            "token": session.token,
            "width": photo.size[0],
            "height": photo.size[1],
            "name": session.name,
            "prompt": marks,
            "heat": None if heat is None else _veil_url(heat, size),
            "outline": None if mask is None else _tint_url(mask.pixels, size),
            "understood": understood(session),
            "tries": session.tries,
            "samples": [self._card(item) for item in self._samples],
        }

    def results(self, session: Session, heats: Sequence[np.ndarray | None] = ()) -> dict[str, Any]:
        """The results: a note and one card a hit, near copies folded."""
        hits = session.hits
        if hits is None:
            return {"hits": [], "note": ""}
        opinion = {"liked": session.opinion.liked, "disliked": session.opinion.disliked}
        firsts = clustering.near_duplicates(self.index.vectors("image", [item.id for item in hits.items]))
        cards: dict[int, dict[str, Any]] = {}
        for i, (item, score) in enumerate(zip(hits.items, hits.scores, strict=True)):
            if firsts[i] != i:
                cards[firsts[i]]["copies"].append(item.name)
                continue
            heat = heats[i] if i < len(heats) else None
            url = None if heat is None else _veil_url(heat, (item.width, item.height))
            shown = None if hits.is_fused else float(score)
            cards[i] = {**self._card(item), "score": shown, "heat": url, "copies": []}
        note = " ".join((_sentence(session), *hits.notes))
        return {
            "hits": list(cards.values()),
            "note": note,
            "way": session.way,
            "opinion": opinion,
            "rounds": len(session.opinions),
        }

    def heads(self, session: Session, encoder: Encoder) -> dict[str, Any]:
        """What each attention head looks at on the query picture, and which of them were kept."""
        from foir.search import explain

        hits = session.hits
        if hits is None or hits.features is None or session.prompt is None:
            return {"heads": [], "note": "Point at something to see what each head looks at."}
        if not hits.is_full_view:
            return {"heads": [], "note": "This way of looking cuts the thing out, so no head sees the picture."}
        width, height = session.shown[1]
        gate = hits.features.gates[0]
        kept = range(encoder.heads) if gate is None else gate.on
        heads = [
            {
                "heat": _veil_url(explain.head_heat(encoder, hits.features, head), (width, height)),
                "on": head in kept,
                "forced": head in session.forced,
            }
            for head in range(encoder.heads)
        ]
        note = (
            "This way of looking keeps every head."
            if gate is None
            else "Bright is where a head looks, outlined are the heads that speak. Press one to switch it."
        )
        about = {"token": session.token, "url": f"photo/{session.token}", "ratio": width / height}
        return {**about, "heads": heads, "fixed": gate is None, "note": note}

    def why(self, session: Session, item: Item, score: float, heat: np.ndarray | None) -> dict[str, Any]:
        """Why a result is one: where the thing may be on it, and which of the kept heads find it most alike."""
        hits = session.hits
        lines = ["Brightest is what is most like the thing you pointed at."] if heat is not None else []
        if session.words.get("text"):
            lines.append(f"It was looked for by your words, \u201c{session.words['text']}\u201d.")
        if session.opinion.liked or session.opinion.disliked:
            lines.append("What you called right and wrong counts.")
        if hits is not None and not hits.is_fused:
            lines.append(f"The whole is {100 * score:.1f} alike, of 100.")
        agreeing = self._agreeing(session, item)
        if agreeing:
            said = ", ".join(f"head {head + 1} ({100 * alike:.0f})" for head, alike in agreeing)
            lines.append(f"Of the heads that were kept, these find it most alike: {said}.")
        url = None if heat is None else _veil_url(heat, (item.width, item.height))
        asked = uuid4().hex  # the same result may be asked for twice
        return {**self._card(item), "heat": url, "lines": lines, "asked": asked}

    def _agreeing(self, session: Session, item: Item) -> list[tuple[int, float]]:
        """The kept heads whose outputs on query and result are most alike, with their cosines; needs a head cache."""
        space, hits = self.index.space("image"), session.hits
        if hits is None or hits.features is None or not space.z or not hits.heads:
            return []
        theirs = self.index.head_outputs(item.id)
        ours = hits.features.z[0].float().cpu().numpy()
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        alike = (ours * theirs).sum(1) / np.maximum(lengths, 1e-12)
        best = sorted(hits.heads, key=lambda head: -alike[head])[:AGREEING]
        return [(head, float(alike[head])) for head in best]

    @cached_property
    def _atlas(self) -> collection_map.CollectionMap:
        return collection_map.build_map(self.index)

    def map(self) -> dict[str, Any]:
        """The map of the collection: points [x, y, cluster, id], and of each cluster name, size and middle picture."""
        made = self._atlas
        points = [
            [round(float(x), 4), round(float(y), 4), int(cluster), int(id)]
            for (x, y), cluster, id in zip(made.places, made.clusters, made.ids, strict=True)
        ]
        sizes = [int((made.clusters == cluster).sum()) for cluster in range(len(made.names))]
        groups = [
            {"name": name or f"group {number + 1}", "size": size, "id": centre}
            for number, (name, size, centre) in enumerate(zip(made.names, sizes, made.centres, strict=True))
        ]
        return {"points": points, "groups": groups}

    def _card(self, item: Item) -> dict[str, Any]:
        return {"id": item.id, "name": item.name, "url": thumb_url(self._key, item)}


def thumb_url(collection: str, item: Item) -> str:
    """Where the page serves a thumbnail, relative to itself."""
    return f"thumb/{collection}/{item.id}"


def understood(session: Session) -> str:
    """What was made of the marks, in one line; nothing where nothing is pointed at."""
    hits, prompt = session.hits, session.prompt
    if hits is None or hits.mask is None or prompt is None:
        return ""
    counts = (("point", prompt.points), ("box", prompt.boxes), ("stroke", prompt.strokes))
    marks = " and ".join(_counted(len(made), name) for name, made in counts if made)
    share = 100 * float(hits.mask.pixels.mean())
    size = f"{share:.0f} %" if share >= 1 else "less than 1 %"
    outlined = ", up to the outline of what it is on" if session.outlined else ""
    line = f"{marks}{outlined}: {size} of the picture."
    if hits.heads is not None and hits.features is not None:
        heads = f"{len(hits.heads)} of {hits.features.z.shape[1]} attention heads"
        line += f" {heads} speak." if session.forced else f" The {heads} that look there most speak."
    return line[:1].upper() + line[1:]


def _counted(count: int, name: str) -> str:
    plural = f"{name}es" if name.endswith("x") else f"{name}s"
    return f"a {name}" if count == 1 else f"{count} {plural}"


def _sentence(session: Session) -> str:
    """What the results are, in words."""
    text, minus = session.words.get("text"), session.words.get("minus")
    without = f", without \u201c{minus}\u201d" if minus else ""
    judged = ", as you judged them" if session.opinion.liked or session.opinion.disliked else ""
    if session.hits is None or session.hits.mask is None:
        return f"Pictures of \u201c{text}\u201d{without}{judged}, best first."
    also = f" and \u201c{text}\u201d" if text else ""
    if session.prompt is not None:
        small = ", however small" if session.small else ""
        return f"Pictures with what you pointed at{small}{also}{without}{judged}, best first."
    return f"Pictures like this one{also}{without}{judged}. Draw a box around one thing to look for that thing."


def encoded(image: Image.Image, kind: str) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    image.save(out, kind, quality=88)
    return out.getvalue()


def _data_url(image: Image.Image) -> str:
    """A PNG as text that a browser shows."""
    return f"data:image/png;base64,{base64.b64encode(encoded(image, 'PNG')).decode()}"


def _veil_url(heat: np.ndarray, size: tuple[int, int]) -> str:
    from foir.search import explain

    scale = HEAT_SIDE / max(size)
    return _data_url(explain.shade(heat, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))))


def _tint_url(mask: np.ndarray, size: tuple[int, int]) -> str:
    """A region [H, W] as a see-through tint."""
    from PIL import Image

    scale = OUTLINE_SIDE / max(size)
    shape = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    alpha = Image.fromarray((mask * TINT[3]).astype(np.uint8)).resize(shape, Image.Resampling.BILINEAR)
    tinted = Image.new("RGBA", shape, TINT[:3])
    tinted.putalpha(alpha)
    return _data_url(tinted)
