"""What programs and agents can ask of the page: search, words, caption, feedback, each typed and without any state.

Gradio makes an endpoint and an MCP tool of each method, from its signature and docstring; it reads annotations as they
stand, so this module keeps them real. Pictures come in as base64 text, not as files or addresses: nothing that a caller
names is opened or fetched. What foir refuses is told in its one sentence.
"""

import base64
import binascii
import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pydantic import ValidationError, validate_call

from foir.app.controller import uploaded
from foir.app.sessions import JUDGED, Settings
from foir.app.views import thumb_url
from foir.errors import BadImage, BadPrompt
from foir.prompts import Prompt
from foir.search.query import Feedback, Query

if TYPE_CHECKING:
    from foir.app.collections import Library
    from foir.search.results import QueryImage, SearchResults
    from foir.search.searcher import Searcher

MOST = 100  # results of one call


class Found(TypedDict):
    """One result: its id, how alike it is, what it is called, its file's name, and where its thumbnail is served."""

    id: int
    score: float
    name: str
    file: str
    thumbnail: str


class Collection(TypedDict):
    """A collection: what to name it by, and what it is called."""

    key: str
    title: str


def endpoint(answer: Callable[..., Any]) -> Callable[..., Any]:
    """An endpoint whose arguments are held against its annotations, since callers are strangers."""
    checked, named = validate_call(answer), inspect.signature(answer)

    @wraps(answer)
    def call(self: "Endpoints", *args: Any, **kwargs: Any) -> Any:
        asked = named.bind(self, *args, **kwargs).arguments
        try:
            return checked(asked.pop("self"), **asked)  # by name, for the sentence to say which
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadPrompt(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}.") from error

    return call


class Endpoints:
    """The endpoints of a page's collections."""

    def __init__(self, library: "Library") -> None:
        """Bind them to the collections."""
        self._library = library

    @endpoint
    def collections(self) -> list[Collection]:
        """Name the collections that can be searched, the one that is searched by default first.

        Returns:
            Collections.
        """
        return [Collection(key=key, title=title) for title, key in self._library.menu()]

    @endpoint
    def search(
        self,
        picture: str = "",
        item: int | None = None,
        boxes: list[list[float]] | None = None,
        points: list[list[float]] | None = None,
        text: str = "",
        minus: str = "",
        mix: float = 0.5,
        method: str = "",
        heads: int | None = None,
        mode: Literal["query", "query-db", "small"] = "query",
        k: int = 20,
        collection: str = "",
    ) -> list[Found]:
        """Find the pictures of the collection that hold what is pointed at on a picture.

        Args:
            picture: The picture to point at: a JPEG, PNG, WebP, GIF, BMP or TIFF file in base64.
            item: Or the id of a picture of the collection.
            boxes: What is pointed at: boxes [x0, y0, x1, y1] in pixels of the picture. Nothing means all of it.
            points: Or points [x, y].
            text: Words that count beside it.
            minus: What the results should not show.
            mix: Weight of words against the picture, 0 to 1.
            method: How to look, such as phs, attention_mask, foveal or crop. By default head selection (phs).
            heads: How many attention heads are kept.
            mode: query; query-db shows the collection through the same heads; small finds tiny things.
            k: How many results, at most 100.
            collection: Key of the collection that is searched; the first one by default.

        Returns:
            Results, best first.
        """
        words = Settings(text=text, minus=minus).words
        searcher, opened, prompt = self._asked(collection, picture, item, boxes, points)
        hits = searcher.search(
            Query(
                opened,
                prompt,
                text=words.get("text"),
                negative_text=words.get("minus"),
                text_weight=mix,
                method=method or None,
                options={} if heads is None else {"h_on": heads},
                mode=mode,
                k=_count(k),
            )
        )
        return self._found(hits, collection)

    @endpoint
    def search_text(self, text: str, minus: str = "", k: int = 20, collection: str = "") -> list[Found]:
        """Find the pictures of the collection that show what a text says.

        Args:
            text: What to look for, such as "a dog on a beach".
            minus: What the results should not show.
            k: How many results, at most 100.
            collection: Key of the collection that is searched; the first one by default.

        Returns:
            Results, best first.
        """
        words = Settings(text=text, minus=minus).words
        searcher = self._library.page(collection).searcher
        return self._found(
            searcher.search(Query(text=words.get("text"), negative_text=words.get("minus"), k=_count(k))), collection
        )

    @endpoint
    def caption(
        self,
        picture: str = "",
        item: int | None = None,
        boxes: list[list[float]] | None = None,
        points: list[list[float]] | None = None,
        strength: float | None = None,
        collection: str = "",
    ) -> str:
        """Say in one sentence what a picture shows, or what is pointed at on it.

        Args:
            picture: A JPEG, PNG, WebP, GIF, BMP or TIFF file in base64.
            item: Or the id of a picture of the collection.
            boxes: What the sentence should lean towards: boxes [x0, y0, x1, y1] in pixels of the picture.
            points: Or points [x, y].
            strength: How far it leans, 0 for not at all.
            collection: Key of the collection whose model says it; the first one by default.

        Returns:
            The sentence, written by a model; it can be wrong.
        """
        searcher, opened, prompt = self._asked(collection, picture, item, boxes, points)
        return searcher.caption(opened, prompt, strength=strength) or ""

    @endpoint
    def feedback(
        self,
        liked: list[int],
        disliked: list[int],
        picture: str = "",
        item: int | None = None,
        boxes: list[list[float]] | None = None,
        points: list[list[float]] | None = None,
        without: list[int] | None = None,
        k: int = 20,
        collection: str = "",
    ) -> list[Found]:
        """Rank the whole collection again after some results were called right or wrong.

        Args:
            liked: Ids of results that were right.
            disliked: Ids of results that were wrong.
            picture: The picture that was searched with, in base64.
            item: Or its id in the collection.
            boxes: What was pointed at: boxes [x0, y0, x1, y1] in pixels of the picture.
            points: Or points [x, y].
            without: Ids to leave out, such as those that were shown before.
            k: How many results, at most 100.
            collection: Key of the collection that is searched; the first one by default.

        Returns:
            Results, best first.
        """
        searcher, opened, prompt = self._asked(collection, picture, item, boxes, points)
        if max(map(len, (liked, disliked, without or ()))) > JUDGED:
            raise BadPrompt(f"Judge at most {JUDGED} pictures.")
        hits = searcher.search(
            Query(opened, prompt, k=_count(k), exclude=without or (), feedback=Feedback(liked=liked, disliked=disliked))
        )
        return self._found(hits, collection)

    def _asked(
        self,
        collection: str,
        picture: str,
        item: int | None,
        boxes: list[list[float]] | None,
        points: list[list[float]] | None,
    ) -> tuple["Searcher", "QueryImage", Prompt | None]:
        """What is searched, the opened picture, and what is pointed at on it."""
        prompt = Prompt.from_json({"boxes": boxes or [], "points": points or []})
        if bool(picture) == (item is not None):
            raise BadPrompt("Give a picture or the id of one of the collection.")
        searcher = self._library.page(collection).searcher
        if item is None:
            opened = searcher.open(uploaded(_bytes(picture)))
        else:
            opened = searcher.open(searcher.index.picture(searcher.index.get(item)))
        return searcher, opened, None if prompt.empty else prompt

    def _found(self, hits: "SearchResults", collection: str) -> list[Found]:
        key = collection or self._library.first
        return [
            Found(id=item.id, score=float(score), name=item.name, file=item.file, thumbnail=f"/{thumb_url(key, item)}")
            for item, score in zip(hits.items, hits.scores, strict=True)
        ]


def _bytes(picture: str) -> bytes:
    try:
        return base64.b64decode(picture.partition("base64,")[2] or picture, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage("The picture is not base64 text.") from error


def _count(k: int) -> int:
    if not 1 <= k <= MOST:
        raise BadPrompt(f"Ask for 1 to {MOST} results, not {k}.")
    return k
