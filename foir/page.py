"""What the page shows and does, without any layout: each step takes a visitor's session and gives what to draw."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from foir import atlas, clustering, images
from foir.errors import BadImage, BadIndex, BadPrompt, Unavailable
from foir.index import Index, Item, exact
from foir.prompts import Prompt
from foir.session import Opinion, Session, Settings, Shown

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from foir.images import Photo
    from foir.search import Searcher

RESULTS, EXPLAINED, SAMPLES, TRIES = 24, 8, 6, 6
UPLOAD_PIXELS = 24_000_000  # a visitor's session keeps its picture in memory for a while
SHOWN_SIDE = 1280  # longer side of the picture sent to the browser; coordinates stay those of the original
HEAT_SIDE = 48  # heat maps travel small and are scaled up smoothly by the browser
REMEMBERED = 256  # pictures whose patches are kept for heat maps


class Page:
    """The steps behind the page. They share one Searcher, which loads while the page is already up."""

    def __init__(self, index: Index, load: Callable[[], Searcher]) -> None:
        """Start loading.

        Args:
            index: The index, for what needs no model.
            load: Gives the Searcher on it.
        """
        self.index = index
        self._searcher: Future[Searcher] = ThreadPoolExecutor(1).submit(load)
        self._patches = lru_cache(maxsize=REMEMBERED)(self._read_patches)
        rows = random.Random(7).sample(range(len(index)), min(SAMPLES, len(index)))  # noqa: S311 - a choice of pictures
        self._samples = [index.item(row) for row in rows]

    @property
    def searcher(self) -> Searcher:
        """The Searcher, waited for if it is still loading."""
        return self._searcher.result()

    def start(self, settings: Settings) -> Shown:
        """Open on a picture of the index with its most prominent thing pointed at, where things are known."""
        session = self._open_item(self.index.item(0).id)
        prompt = Prompt.box(*session.tries[0]["box"]) if session.tries else None
        return self.search(replace(session, prompt=prompt), settings)

    def upload(self, data: bytes, settings: Settings) -> Shown:
        """Open a visitor's own picture."""
        return self.search(self._open(images.read(data, max_pixels=UPLOAD_PIXELS), "your picture"), settings)

    def choose(self, id: int, settings: Settings) -> Shown:
        """Open a picture of the index as the query."""
        return self.search(self._open_item(id), settings)

    def point(self, session: Session, marks: Mapping[str, Any], token: str, settings: Settings) -> Shown:
        """Search for what was marked; no mark at all searches with the whole picture.

        Raises:
            BadPrompt: The marks make no sense, or were drawn on a picture that is no longer open.
        """
        if token != session.token:
            raise BadPrompt("The picture changed while you were pointing: point again.")
        prompt = Prompt.from_json(marks)
        asked = replace(session, prompt=None if prompt.empty else prompt, said=False, opinions=())
        return self.search(asked, settings)

    def refine(self, session: Session, said: Mapping[str, Any], settings: Settings) -> Shown:
        """Search again after some results were called right or wrong, or take the last such judgement back.

        Args:
            session: What is looked at.
            said: {"liked": [id], "disliked": [id], "fresh": bool}, all that was judged so far; or {"undo": true}.
            settings: What the controls say.

        Raises:
            BadPrompt: It is not that.
        """
        if not isinstance(said, Mapping):
            raise BadPrompt("Judgements are two lists of pictures.")
        if said.get("undo"):
            return self.search(replace(session, opinions=session.opinions[:-1]), settings)
        shown = {item.id for item in session.hits.items} if session.hits is not None and said.get("fresh") else set()
        without = shown | set(session.opinion.without) if said.get("fresh") else ()
        opinion = Opinion.from_json(said, list(without))
        return self.search(replace(session, opinions=(*session.opinions, opinion)), settings)

    def say(self, session: Session, settings: Settings) -> Shown:
        """Search for the words; none at all goes back to what is pointed at."""
        return self.search(replace(session, said="text" in settings.words, opinions=()), settings)

    def search(self, session: Session, settings: Settings) -> Shown:
        """Search, or search again with other settings."""
        from foir import explain

        words = settings.words
        if not (settings.together or session.said):
            words.pop("text", None)
        alone = "text" in words and not settings.together
        pointed = session.prompt is not None and not alone
        small = pointed and settings.small
        hits = self.searcher.search(
            None if alone else session.picture,
            session.prompt if pointed else None,
            text=words.get("text"),
            minus=words.get("minus"),
            mix=settings.mix,
            method=settings.method if pointed and not small else None,
            options={"h_on": settings.heads} if pointed and not small and "phs" in settings.method.split("|") else {},
            mode="small" if small else "query-db" if pointed and settings.both else "query",
            k=RESULTS,
            liked=session.opinion.liked,
            disliked=session.opinion.disliked,
            without=session.opinion.without,
        )
        if settings.least and not hits.weighed:
            hits = hits.at_least(settings.least)
        session = replace(session, hits=hits, words=words, small=small)
        heat = None
        if pointed and hits.features is not None and hits.seen_whole:
            heat = explain.query_heat(self.searcher.encoder, hits.features)
        return Shown(session, self._pointer(session, heat), self.results(session))

    def explain(self, session: Session) -> dict[str, Any]:
        """The results again, with where the pointed thing is on the first of them."""
        from foir import explain

        if session.hits is None or session.hits.mask is None or session.prompt is None:
            return self.results(session)
        encoder = self.searcher.encoder
        wanted = explain.region_vector(encoder, session.picture.prefix, session.hits.mask)
        heats: list[np.ndarray | None] = []
        for item in session.hits.items[:EXPLAINED]:
            try:
                heats.append(explain.hit_heat(encoder, wanted, self._patches(item.id)))
            except (BadIndex, BadImage):
                heats.append(None)  # its thumbnail is damaged: the card stays without a heat map
        return self.results(session, heats)

    def results(self, session: Session, heats: Sequence[np.ndarray | None] = ()) -> dict[str, Any]:
        """The results part: a note and one card a hit."""
        hits = session.hits
        if hits is None:
            return {"hits": [], "note": ""}
        opinion = {"liked": session.opinion.liked, "disliked": session.opinion.disliked}
        rows = [self.index.row(item.id) for item in hits.items]
        firsts = clustering.copies(exact.take(self.index.space("image").shards, rows))
        cards: dict[int, dict[str, Any]] = {}
        for i, (item, score) in enumerate(zip(hits.items, hits.scores, strict=True)):
            if firsts[i] != i:
                cards[firsts[i]]["copies"].append(_name(item))
                continue
            heat = heats[i] if i < len(heats) else None
            url = None if heat is None else _veil_url(heat, (item.width, item.height))
            shown = None if hits.weighed else float(score)
            cards[i] = {**self._card(item), "score": shown, "heat": url, "copies": []}
        note = " ".join((_sentence(session), *hits.notes))
        return {"hits": list(cards.values()), "note": note, "opinion": opinion, "rounds": len(session.opinions)}

    def describe(self, session: Session, lean: float) -> dict[str, str]:
        """What the model says of the open picture and of what is pointed at; see `point_out`."""
        whole = self.searcher.caption(session.picture) if self._writes() else None
        return {**self.point_out(session, lean), "whole": whole or ""}

    @cached_property
    def _atlas(self) -> atlas.Atlas:
        return atlas.chart(self.index)

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

    def point_out(self, session: Session, lean: float) -> dict[str, str]:
        """What the model says of what is pointed at; nothing where it writes no captions or can only see the whole.

        Args:
            session: What is looked at.
            lean: How far the sentence leans, as a multiple of what the model itself would choose.
        """
        said = None
        if session.prompt is not None and lean and self._writes():
            with suppress(Unavailable):  # some models write, but cannot be steered
                strength = lean * (self.searcher.writer or self.searcher.crossmodal).strength
                said = self.searcher.caption(session.picture, session.prompt, strength=strength)
        return {"token": session.token, "pointed": said or ""}

    def _writes(self) -> bool:
        """Whether there is a model that could write captions."""
        return self.searcher.writer is not None or "text" in self.index.spaces

    def _open_item(self, id: int) -> Session:
        item = self.index.item(self.index.row(id))
        photo = images.read(self.index.picture(item))
        return self._open(photo, _name(item), self._tries(item, photo))

    def _open(self, photo: Photo, name: str, tries: tuple[Mapping[str, Any], ...] = ()) -> Session:
        small = photo.image.copy()
        small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        return Session(self.searcher.open(photo), name, (_data_url(small, "JPEG"), small.size), tries)

    def _tries(self, item: Item, photo: Photo) -> tuple[Mapping[str, Any], ...]:
        """Known things of a picture worth pointing at, largest first, each name once, boxes in the photo's pixels."""
        scale_x, scale_y = photo.size[0] / item.width, photo.size[1] / item.height
        known = sorted(self.index.objects(item.id), key=lambda o: (o.box[0] - o.box[2]) * (o.box[3] - o.box[1]))
        boxes: dict[str, list[float]] = {}
        for thing in known:
            x0, y0, x1, y1 = thing.box
            boxes.setdefault(thing.name, [x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y])
        return tuple({"name": name, "box": box} for name, box in list(boxes.items())[:TRIES])

    def _pointer(self, session: Session, heat: np.ndarray | None) -> dict[str, Any]:
        photo, prompt = session.picture.photo, session.prompt
        url, size = session.shown
        marks = None
        if prompt is not None:
            strokes = [{"path": s.path, "width": s.width} for s in prompt.strokes]
            marks = {"points": prompt.points, "boxes": prompt.boxes, "strokes": strokes}
        return {
            "url": url,
            "token": session.token,
            "width": photo.size[0],
            "height": photo.size[1],
            "name": session.name,
            "prompt": marks,
            "heat": None if heat is None else _veil_url(heat, size),
            "tries": session.tries,
            "samples": [self._card(item) for item in self._samples],
        }

    def _card(self, item: Item) -> dict[str, Any]:
        try:
            url: str | None = f"gradio_api/file={quote(str(self.index.thumb(item).resolve()))}"
        except BadIndex:
            url = None  # the card stays, its picture does not
        return {"id": item.id, "name": _name(item), "url": url}

    def _read_patches(self, id: int) -> np.ndarray:
        hit = self.searcher.open(self.index.thumb(self.index.item(self.index.row(id))))
        return self.searcher.encoder.patches(hit.prefix)[0].cpu().numpy()


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


def _name(item: Item) -> str:
    return item.caption or item.file


def _data_url(image: Image.Image, kind: str) -> str:
    out = io.BytesIO()
    image.save(out, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def _veil_url(heat: np.ndarray, size: tuple[int, int]) -> str:
    from foir import explain

    scale = HEAT_SIDE / max(size)
    return _data_url(explain.veil(heat, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))), "PNG")
