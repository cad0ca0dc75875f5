"""What the page shows and does, without any layout: each step takes a visitor's session and gives what to draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foir import images, methods
from foir.app.capabilities import Offer
from foir.app.patch_cache import Patches
from foir.app.sessions import Opinion, Session, Settings, Shown
from foir.app.views import Panels, encoded
from foir.errors import BadPrompt, Unavailable
from foir.index import Item
from foir.index.protocol import IndexLike
from foir.prompts import Prompt
from foir.search.query import Feedback, Query

if TYPE_CHECKING:
    from foir.images import Photo
    from foir.search.searcher import Searcher

RESULTS, EXPLAINED, TRIES = 24, 8, 6
UPLOAD_PIXELS = 24_000_000  # a visitor's session keeps its picture in memory for a while
UPLOAD_BYTES = 20_000_000
SHOWN_SIDE = 1280  # longer side of the picture sent to the browser; coordinates stay those of the original


class Page:
    """The steps behind the page. They share one Searcher, which loads while the page is already up."""

    def __init__(self, index: IndexLike, load: Callable[[], Searcher], key: str = "") -> None:
        """Start loading.

        Args:
            index: The index, for what needs no model.
            load: Gives the Searcher on it.
            key: Names the collection among others.
        """
        self.index, self.key, self.offer = index, key, Offer.of(index)
        self._searcher: Future[Searcher] = ThreadPoolExecutor(1).submit(load)
        self.panels = Panels(index, key)
        self._patches = Patches(index)

    @property
    def searcher(self) -> Searcher:
        """The Searcher, waited for if it is still loading."""
        return self._searcher.result()

    def start(self, settings: Settings) -> Shown:
        """Open on a picture of the index with its most prominent thing pointed at, where things are known."""
        session = self._open_item(self.index.sample(1)[0].id)
        prompt = Prompt.box(*session.tries[0]["box"]) if session.tries else None
        return self.search(replace(session, prompt=prompt), settings)

    def upload(self, data: bytes, settings: Settings) -> Shown:
        """Open a visitor's own picture."""
        return self.search(self._open(uploaded(data), "your picture"), settings)

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
        asked = replace(session, prompt=None if prompt.empty else prompt, forced={}, said=False, opinions=())
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
        from foir.search import explain

        words = settings.words
        if not (settings.together or session.said):
            words.pop("text", None)
        alone = "text" in words and not settings.together
        prompt = None if alone else session.prompt
        small = prompt is not None and settings.small
        loose = prompt is not None and bool(prompt.points or prompt.strokes)  # a box says itself how far it goes
        outlined = loose and (small or settings.outline)
        if prompt is not None and outlined and not small:  # what is small is outlined by the search itself
            prompt = Prompt(mask=session.picture.outline(prompt, self.searcher.patch_mask(session.picture, prompt)))
        hits = self.searcher.search(
            Query(
                None if alone else session.picture,
                prompt,
                text=words.get("text"),
                negative_text=words.get("minus"),
                text_weight=settings.mix,
                method=settings.method if prompt is not None and not small else None,
                options=_options(session, settings) if prompt is not None and not small else {},
                mode="small" if small else "query-db" if prompt is not None and settings.both else "query",
                k=RESULTS + 1,
                exclude=session.opinion.without,
                feedback=Feedback(liked=session.opinion.liked, disliked=session.opinion.disliked),
            )
        )
        hits = hits.excluding(None if alone else session.item, RESULTS)
        if settings.least and not hits.is_fused:
            hits = hits.above(settings.least)
        way = "" if prompt is None or small else methods.title(settings.method)
        session = replace(session, hits=hits, words=words, small=small, outlined=outlined, way=way)
        heat = None
        if prompt is not None and hits.features is not None and hits.is_full_view:
            heat = explain.query_heat(self.searcher.encoder, hits.features)
            if hits.mask is not None:  # what is pointed at is never veiled itself
                heat = np.maximum(heat, hits.mask.patches)
        return Shown(session, self.panels.pointer(session, heat), self.panels.results(session))

    def force(self, session: Session, head: Any, token: str, settings: Settings) -> Shown:
        """Search again with one head switched, or left to the method again where it was switched before.

        Raises:
            BadPrompt: There is no such head, it was pressed on a picture that is no longer open, or heads are not what
                this search chose by.
        """
        hits = session.hits
        if token != session.token:
            raise BadPrompt("The picture changed: look at its own heads first.")
        if hits is None or hits.heads is None or hits.features is None:
            raise BadPrompt("Heads can be switched where head selection looks at what you pointed at.")
        if type(head) is not int or head not in range(hits.features.z.shape[1]):
            raise BadPrompt("There is no such head.")
        forced = {**session.forced, head: head not in hits.heads}
        if head in session.forced:
            del forced[head]
        return self.search(replace(session, forced=forced), settings)

    def compare(self, session: Session, settings: Settings, method: str) -> dict[str, Any] | None:
        """The results of another way of looking, for what is pointed at now; None where nothing is."""
        if session.prompt is None or session.hits is None or session.hits.mask is None:
            return None
        other = self.search(replace(session, forced={}), replace(settings, method=method, small=False))
        return {**other.results, "title": methods.title(method), "plain": True}

    def explain(self, session: Session) -> dict[str, Any]:
        """The results again, with where the pointed thing is on the first of them."""
        if session.hits is None:
            return self.panels.results(session)
        return self.panels.results(session, self._heats(session, session.hits.items[:EXPLAINED]))

    def heads(self, session: Session) -> dict[str, Any]:
        """What each attention head looks at on the query picture."""
        return self.panels.heads(session, self.searcher.encoder)

    def why(self, session: Session, id: Any) -> dict[str, Any]:
        """Why one of the results is one.

        Raises:
            BadPrompt: It is none.
        """
        for item, score in () if session.hits is None else zip(session.hits.items, session.hits.scores, strict=True):
            if item.id == id:
                return self.panels.why(session, item, float(score), *self._heats(session, [item]))
        raise BadPrompt("That picture is no longer among the results.")

    def _heats(self, session: Session, items: Sequence[Item]) -> list[np.ndarray | None]:
        """Where the pointed thing may be on each of some results."""
        from foir.search import explain

        if session.hits is None or session.hits.mask is None or session.prompt is None:
            return [None] * len(items)
        encoder = self.searcher.encoder
        wanted = explain.region_vector(encoder, session.picture.prefix, session.hits.mask)
        seen = self._patches.of(encoder, items)
        return [None if patches is None else explain.result_heat(encoder, wanted, patches) for patches in seen]

    def describe(self, session: Session, lean: float) -> dict[str, str]:
        """What the model says of the open picture, and of what is pointed at; nothing where it writes no captions.

        Args:
            session: What is looked at.
            lean: How far the second sentence leans, as a multiple of what the model itself would choose.
        """
        whole = pointed = None
        if self._writes():
            whole = self.searcher.caption(session.picture)
            if session.prompt is not None and lean:
                with suppress(Unavailable):  # some models write, but cannot be steered
                    strength = lean * (self.searcher.captioner or self.searcher.image_text).strength
                    pointed = self.searcher.caption(session.picture, session.prompt, strength=strength)
        return {"whole": whole or "", "pointed": pointed or ""}

    def _writes(self) -> bool:
        """Whether there is a model that could write captions."""
        return self.searcher.captioner is not None or "text" in self.index.spaces

    def _open_item(self, id: int) -> Session:
        item = self.index.get(id)
        photo = images.read(self.index.picture(item))
        return self._open(photo, item.name, self._tries(item, photo), id)

    def _open(
        self, photo: Photo, name: str, tries: tuple[Mapping[str, Any], ...] = (), item: int | None = None
    ) -> Session:
        small = photo.image.copy()
        small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        return Session(self.searcher.open(photo), name, (encoded(small, "JPEG"), small.size), tries, self.key, item)

    def _tries(self, item: Item, photo: Photo) -> tuple[Mapping[str, Any], ...]:
        """Known things of a picture worth pointing at, largest first, each name once, boxes in the photo's pixels."""
        scale_x, scale_y = photo.size[0] / item.width, photo.size[1] / item.height
        known = sorted(self.index.objects(item.id), key=lambda o: (o.box[0] - o.box[2]) * (o.box[3] - o.box[1]))
        boxes: dict[str, list[float]] = {}
        for thing in known:
            x0, y0, x1, y1 = thing.box
            boxes.setdefault(thing.name, [x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y])
        return tuple({"name": name, "box": box} for name, box in list(boxes.items())[:TRIES])


def uploaded(data: bytes) -> Photo:
    """A stranger's picture.

    Raises:
        BadImage: It cannot be read, or is too large.
    """
    return images.read(data, max_bytes=UPLOAD_BYTES, max_pixels=UPLOAD_PIXELS)


def _options(session: Session, settings: Settings) -> dict[str, Any]:
    """Of head selection, where it is part of the method."""
    if "phs" not in settings.method.split("|"):
        return {}
    forced = {state: tuple(head for head, on in session.forced.items() if on is state) for state in (True, False)}
    return {"h_on": settings.heads, "keep": forced[True], "drop": forced[False]}
