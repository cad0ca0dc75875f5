"""Actions on one collection: each takes a user's session and returns the values to show. Knows no layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from foir import methods
from foir.app.capabilities import Capabilities
from foir.app.patch_cache import PatchCache
from foir.app.pictures import read_picture, read_upload, reduce
from foir.app.sessions import Judgements, PageUpdate, Session, Settings
from foir.app.views import Views, encode_image
from foir.errors import BadPrompt, Unavailable
from foir.images import Photo
from foir.index import Index, Item
from foir.index.protocol import IndexLike
from foir.prompts import Prompt
from foir.search import explain
from foir.search.query import MAX_RESULTS, Feedback, Query

if TYPE_CHECKING:
    from foir.encoders.base import Encoder
    from foir.image_text import ImageTextModel
    from foir.search.searcher import Searcher

RESULTS, EXPLAINED, SUGGESTIONS = 24, 8, 6
Models: TypeAlias = "tuple[Encoder, ImageTextModel | None] | None"
PREVIEW_SIDE = 1280  # longer side of the image sent to the browser; coordinates are those of the original


class Controller:
    """Actions of the page on one collection. All users share its Searcher, which the first that needs it loads."""

    def __init__(
        self, index: IndexLike, load: Callable[[], Searcher], key: str = "", *, models: Models = None,
        serves_files: bool = False,
    ) -> None:  # fmt: skip
        """Bind to the index.

        Args:
            index: The index, for actions that need no model.
            load: Loads the Searcher of the index.
            key: Key of the collection.
            models: Those of the collection's earlier state; `load` takes them.
            serves_files: Users may open the files of its images: only on localhost.
        """
        self.index, self.key, self.capabilities = index, key, Capabilities.from_index(index)
        self._models = models
        self._load, self._loader, self._loading = load, ThreadPoolExecutor(1), Lock()
        self._searcher: Future[Searcher] | None = None
        self.views = Views(
            index, key, serves_files=serves_files and isinstance(index, Index) and index.root is not None
        )
        self._patches = PatchCache(index)

    @property
    def searcher(self) -> Searcher:
        """The Searcher; waits until it is loaded. A load that failed is started again by the next call."""
        with self._loading:
            if self._searcher is None or (self._searcher.done() and self._searcher.exception() is not None):
                self._searcher = self._loader.submit(self._load)
            searcher = self._searcher
        return searcher.result()

    @property
    def models(self) -> Models:
        """The encoder and the captioner, if they are loaded, for the next state of the collection."""
        searcher = self._searcher
        if searcher is not None and searcher.done() and searcher.exception() is None:
            return searcher.result().encoder, searcher.result().captioner
        return self._models

    def start(self, settings: Settings) -> PageUpdate:
        """Open an image of the collection with its largest known object marked."""
        session = self._open_item(self.index.sample(1)[0].id)
        prompt = Prompt.box(*session.suggestions[0]["box"]) if session.suggestions else None
        return self.search(replace(session, prompt=prompt), settings)

    def upload(self, data: bytes, settings: Settings) -> PageUpdate:
        """Open a user's own image."""
        return self.search(self._open(reduce(read_upload(data)), "your image"), settings)

    def choose(self, id: int, settings: Settings) -> PageUpdate:
        """Open an image of the collection as the query."""
        return self.search(self._open_item(id), settings)

    def point(self, session: Session, marks: Mapping[str, Any], token: str, settings: Settings) -> PageUpdate:
        """Search for the marked object, or with the whole image if there are no marks.

        Args:
            session: The session.
            marks: {"points": ..., "boxes": ..., "strokes": ...}; see `Prompt.from_json`.
            token: Token of the image that the marks were drawn on.
            settings: Values of the controls.

        Raises:
            BadPrompt: The marks are invalid, or were drawn on an image that is no longer open.
        """
        if token != session.token:
            raise BadPrompt("The image changed while you marked it: mark the object again.")
        prompt = Prompt.from_json(marks)
        session = replace(session, prompt=None if prompt.empty else prompt, forced_heads={}, text_only=False, rounds=())
        return self.search(session, settings)

    def refine(self, session: Session, feedback: Mapping[str, Any], settings: Settings) -> PageUpdate:
        """Search again with feedback, or undo the last round of it.

        Args:
            session: The session.
            feedback: {"liked": [id], "disliked": [id], "fresh": bool} with the judgements of all rounds, or
                {"undo": true}. "fresh" excludes the images shown so far.
            settings: Values of the controls.

        Raises:
            BadPrompt: The feedback has another form.
        """
        if not isinstance(feedback, Mapping):
            raise BadPrompt("Feedback is two lists of images.")
        if feedback.get("undo"):
            return self.search(replace(session, rounds=session.rounds[:-1]), settings)
        exclude: set[int] = set()
        if feedback.get("fresh"):
            exclude = set(session.judgements.exclude)
            exclude |= {item.id for item in session.results.items} if session.results is not None else set()
        judgements = Judgements.from_json(feedback, exclude).placed(session)
        return self.search(replace(session, rounds=(*session.rounds, judgements)), settings)

    def search_text(self, session: Session, settings: Settings) -> PageUpdate:
        """Search for the text; without a text, search for the marked object again."""
        return self.search(replace(session, text_only="text" in settings.texts, rounds=()), settings)

    def search(self, session: Session, settings: Settings) -> PageUpdate:
        """Search, or search again with other settings."""
        texts = settings.texts
        if not (settings.combine_text or session.text_only):
            texts.pop("text", None)
        query, outlined = self._query(session, settings, texts)
        results = self.searcher.search(query)
        results = results.excluding(None if query.image is None else session.item_id, len(results.items))
        results = results.keeping(session.judgements.places, RESULTS)
        if settings.min_score:
            results = results.above(settings.min_score)
        session = replace(
            session,
            results=results,
            texts=texts,
            outlined=outlined,
            method_title=methods.title(query.method) if query.method else "",
        )
        heat = None
        if query.prompt is not None and results.features is not None and results.is_full_view:
            heat = explain.query_heat(self.searcher.encoder, results.features)
            if results.mask is not None:  # the marked object itself stays bright
                heat = np.maximum(heat, results.mask.patches)
        return PageUpdate(session, self.views.pointer(session, heat), self.views.results(session))

    def _query(self, session: Session, settings: Settings, texts: Mapping[str, str]) -> tuple[Query, bool]:
        """The query, and whether it takes the whole object under a mark."""
        image = None if "text" in texts and not settings.combine_text else session.image
        prompt, judgements = session.prompt, session.judgements
        common: dict[str, Any] = {
            **texts,
            "image": image,
            "text_weight": settings.text_weight,
            "context": settings.context,
            "k": min(RESULTS + 1 + len(judgements.liked), MAX_RESULTS),
            "feedback": Feedback(judgements.liked, judgements.disliked),
            "exclude": judgements.exclude,
            "filters": settings.filters,
        }
        if image is None or prompt is None:
            return Query(**common), False
        is_loose = bool(prompt.points or prompt.strokes)  # a box has an extent of its own
        outlined = is_loose and settings.outline and len(prompt.marks()) == 1  # several marks are several things
        if outlined:
            prompt = Prompt(mask=image.outline(prompt, self.searcher.patch_mask(image, prompt)))
        mode = "query-db" if settings.query_db else "query"
        common |= {"method": settings.method, "options": _options(session, settings)}
        return Query(**common, prompt=prompt, mode=mode), outlined

    def switch_head(self, session: Session, head: Any, token: str, settings: Settings) -> PageUpdate:
        """Search again with one head switched on or off; a second switch leaves it to the method again.

        Raises:
            BadPrompt: There is no such head, the image is no longer open, or the search did not select heads.
        """
        results = session.results
        if token != session.token:
            raise BadPrompt("The image changed: use the heads of the new image.")
        if results is None or results.heads is None or results.features is None:
            raise BadPrompt("Heads can be switched only where the method is head selection and an object is marked.")
        if type(head) is not int or head not in range(results.features.z.shape[1]):
            raise BadPrompt("There is no such head.")
        forced_heads = {**session.forced_heads, head: head not in results.heads}
        if head in session.forced_heads:
            del forced_heads[head]
        return self.search(replace(session, forced_heads=forced_heads), settings)

    def compare(self, session: Session, settings: Settings, method: str) -> dict[str, Any] | None:
        """Results of another method alone for the current prompt, without regions; None without a prompt."""
        if session.prompt is None or session.results is None or session.results.mask is None:
            return None
        settings = replace(settings, method=method, context=1.0)
        update = self.search(replace(session, forced_heads={}), settings)
        return {**update.results, "title": methods.title(method), "plain": True}

    def heatmaps(self, session: Session) -> dict[str, Any]:
        """The results, the first of them with heat maps."""
        items = () if session.results is None else session.results.items[:EXPLAINED]
        return self.views.results(session, self._heats(session, items))

    def heads(self, session: Session) -> dict[str, Any]:
        """The attention of each head on the query image."""
        return self.views.heads(session, self.searcher.encoder)

    def explain(self, session: Session, id: Any) -> dict[str, Any]:
        """Why a result was found.

        Raises:
            BadPrompt: The image is not among the results.
        """
        if session.results is not None:
            for place, item in enumerate(session.results.items):
                if item.id == id:
                    return self.views.explanation(session, place, *self._heats(session, [item]))
        raise BadPrompt("That image is no longer among the results.")

    def _heats(self, session: Session, items: Sequence[Item]) -> list[np.ndarray | None]:
        """Heat maps [rows, cols] of the marked object on some results."""
        if session.results is None or session.results.mask is None or session.prompt is None:
            return [None] * len(items)
        encoder = self.searcher.encoder
        region = explain.region_vector(encoder, session.image.prefix, session.results.mask)
        features = self._patches.get(encoder, items)
        return [None if patches is None else explain.result_heat(encoder, region, patches) for patches in features]

    def captions(self, session: Session, strength: float) -> dict[str, str]:
        """Captions of the whole image and of the marked object; empty where the model cannot write them.

        Args:
            session: The session.
            strength: Strength of steering towards the object, as a multiple of the model's default.
        """
        searcher, whole, marked = self.searcher, None, None
        if searcher.captioner is not None or "text" in self.index.spaces:
            whole = searcher.caption(session.image)
            if session.prompt is not None and strength:
                with suppress(Unavailable, BadPrompt):  # a model that cannot be steered, or does not see the object
                    strength *= (searcher.captioner or searcher.image_text).strength
                    marked = searcher.caption(session.image, session.prompt, strength=strength)
        return {"whole": whole or "", "marked": marked or ""}

    def _open_item(self, id: int) -> Session:
        item = self.index.get(id)
        photo = reduce(read_picture(self.index, item))
        return self._open(photo, item.name, self._suggestions(item, photo), id)

    def _open(
        self, photo: Photo, name: str, suggestions: tuple[Mapping[str, Any], ...] = (), id: int | None = None
    ) -> Session:
        preview = photo.image.copy()
        preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        jpeg = encode_image(preview, "JPEG")
        return Session(self.searcher.open(photo), name, (jpeg, preview.size), suggestions, self.key, id)

    def _suggestions(self, item: Item, photo: Photo) -> tuple[Mapping[str, Any], ...]:
        """Known objects of an image, largest first, each name once; boxes in pixels of the photo."""
        scale_x, scale_y = photo.size[0] / item.width, photo.size[1] / item.height
        known = sorted(self.index.objects(item.id), key=lambda o: (o.box[0] - o.box[2]) * (o.box[3] - o.box[1]))
        boxes: dict[str, list[float]] = {}
        for known_object in known:
            x0, y0, x1, y1 = known_object.box
            boxes.setdefault(known_object.name, [x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y])
        return tuple({"name": name, "box": box} for name, box in list(boxes.items())[:SUGGESTIONS])


def _options(session: Session, settings: Settings) -> dict[str, Any]:
    """Options of head selection, if it is part of the method."""
    if "phs" not in settings.method.split("|"):
        return {}
    heads = session.forced_heads
    keep, drop = (tuple(head for head, on in heads.items() if on is state) for state in (True, False))
    return {"h_on": settings.heads, "keep": keep, "drop": drop}
