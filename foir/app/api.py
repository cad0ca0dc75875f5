"""API of the page for programs and agents: stateless endpoints with typed arguments.

Gradio makes an endpoint and an MCP tool of each method, from its signature and docstring. It reads annotations at run
time, so this module does not postpone them. Images are base64 text, not files or addresses: nothing that a caller names
is opened or fetched. Each error is one sentence.
"""

import base64
import binascii
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, TypedDict

from pydantic import ValidationError, validate_call

from foir.app.collections import Collections
from foir.app.controller import read_upload
from foir.app.sessions import MAX_JUDGED, Settings
from foir.app.views import thumb_url
from foir.errors import BadImage, BadPrompt
from foir.prompts import Prompt
from foir.search.query import Feedback, Query
from foir.search.results import QueryImage
from foir.search.searcher import Searcher

MAX_RESULTS = 100  # of one call
Marks = list[list[float]] | None  # one list of coordinates for each mark


class Hit(TypedDict):
    """One result: its id, similarity, name, file name, and the path of its thumbnail on this server."""

    id: int
    score: float
    name: str
    file: str
    thumbnail: str


class Collection(TypedDict):
    """A collection: the key that names it in calls, and its title."""

    key: str
    title: str


def endpoint(method: Callable[..., Any]) -> Callable[..., Any]:
    """Validate the arguments of an endpoint against its annotations."""
    validated, signature = validate_call(method), inspect.signature(method)

    @wraps(method)
    def call(self: "Api", *args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(self, *args, **kwargs).arguments
        try:
            return validated(arguments.pop("self"), **arguments)  # by name, so that the error tells which
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            location = ".".join(str(part) for part in first["loc"])
            raise BadPrompt(f"{location}: {first['msg'][:1].lower()}{first['msg'][1:]}.") from error

    return call


class Api:
    """The endpoints of a page."""

    def __init__(self, collections: Collections) -> None:
        """Bind to the collections."""
        self._collections = collections

    @endpoint
    def collections(self) -> list[Collection]:
        """List the collections that can be searched, the default one first.

        Returns:
            Collections.
        """
        return [Collection(key=key, title=title) for title, key in self._collections.choices()]

    @endpoint
    def search(
        self,
        image: str = "",
        item: int | None = None,
        boxes: Marks = None,
        points: Marks = None,
        text: str = "",
        negative_text: str = "",
        text_weight: float = 0.5,
        method: str = "",
        heads: int | None = None,
        mode: Literal["query", "query-db", "small"] = "query",
        k: int = 20,
        collection: str = "",
    ) -> list[Hit]:
        """Find the images of the collection that contain the marked object of a query image.

        Args:
            image: The query image: a JPEG, PNG, WebP, GIF, BMP or TIFF file in base64.
            item: Or the id of an image of the collection.
            boxes: Boxes [x0, y0, x1, y1] around the object, in pixels of the image. Without marks, all of it.
            points: Or points [x, y] on the object.
            text: Text to combine with the object.
            negative_text: Text for what the results should not show.
            text_weight: Weight of the text against the image, 0 to 1.
            method: Method, such as phs, attention_mask, foveal or crop. By default head selection (phs).
            heads: Number of attention heads to keep.
            mode: query; query-db applies the selected heads to the collection too; small finds small objects.
            k: Number of results, at most 100.
            collection: Key of the collection to search; the default one if empty.

        Returns:
            Results, best first.
        """
        texts = Settings(text=text, negative_text=negative_text).texts
        searcher, query_image, prompt = self._open(collection, image, item, boxes, points)
        query = Query(
            query_image,
            prompt,
            texts.get("text"),
            texts.get("negative_text"),
            text_weight=text_weight,
            method=method or None,
            options={} if heads is None else {"h_on": heads},
            mode=mode,
            k=_check_k(k),
        )
        return self._search(searcher, query, collection)

    @endpoint
    def search_text(self, text: str, negative_text: str = "", k: int = 20, collection: str = "") -> list[Hit]:
        """Find the images of the collection that match a text.

        Args:
            text: What to look for, such as "a dog on a beach".
            negative_text: Text for what the results should not show.
            k: Number of results, at most 100.
            collection: Key of the collection to search; the default one if empty.

        Returns:
            Results, best first.
        """
        texts = Settings(text=text, negative_text=negative_text).texts
        searcher = self._collections.controller(collection).searcher
        query = Query(text=texts.get("text"), negative_text=texts.get("negative_text"), k=_check_k(k))
        return self._search(searcher, query, collection)

    @endpoint
    def caption(
        self,
        image: str = "",
        item: int | None = None,
        boxes: Marks = None,
        points: Marks = None,
        strength: float | None = None,
        collection: str = "",
    ) -> str:
        """Describe an image, or the marked object on it, in one sentence.

        Args:
            image: A JPEG, PNG, WebP, GIF, BMP or TIFF file in base64.
            item: Or the id of an image of the collection.
            boxes: Boxes [x0, y0, x1, y1] around the object to describe, in pixels of the image.
            points: Or points [x, y] on the object.
            strength: Strength of steering towards the object, 0 for none.
            collection: Key of the collection whose model writes the caption; the default one if empty.

        Returns:
            The caption, written by a model; it can be wrong.
        """
        searcher, query_image, prompt = self._open(collection, image, item, boxes, points)
        return searcher.caption(query_image, prompt, strength=strength) or ""

    @endpoint
    def feedback(
        self,
        liked: list[int],
        disliked: list[int],
        image: str = "",
        item: int | None = None,
        boxes: Marks = None,
        points: Marks = None,
        exclude: list[int] | None = None,
        k: int = 20,
        collection: str = "",
    ) -> list[Hit]:
        """Rank the whole collection again after some results were judged.

        Args:
            liked: Ids of relevant results.
            disliked: Ids of irrelevant results.
            image: The query image in base64.
            item: Or its id in the collection.
            boxes: Boxes [x0, y0, x1, y1] around the marked object, in pixels of the image.
            points: Or points [x, y] on the object.
            exclude: Ids of images to exclude, such as earlier results.
            k: Number of results, at most 100.
            collection: Key of the collection to search; the default one if empty.

        Returns:
            Results, best first.
        """
        searcher, query_image, prompt = self._open(collection, image, item, boxes, points)
        exclude = exclude or []
        if max(map(len, (liked, disliked, exclude))) > MAX_JUDGED:
            raise BadPrompt(f"Judge at most {MAX_JUDGED} images.")
        query = Query(query_image, prompt, k=_check_k(k), feedback=Feedback(liked, disliked), exclude=exclude)
        return self._search(searcher, query, collection)

    def _open(
        self, collection: str, image: str, item: int | None, boxes: Marks, points: Marks
    ) -> tuple[Searcher, QueryImage, Prompt | None]:
        """The Searcher of the collection, the query image and the prompt."""
        prompt = Prompt.from_json({"boxes": boxes or [], "points": points or []})
        if bool(image) == (item is not None):
            raise BadPrompt("Give either an image or the id of an image of the collection.")
        searcher = self._collections.controller(collection).searcher
        source = read_upload(_decode(image)) if item is None else searcher.index.picture(searcher.index.get(item))
        return searcher, searcher.open(source), None if prompt.empty else prompt

    def _search(self, searcher: Searcher, query: Query, collection: str) -> list[Hit]:
        results, key = searcher.search(query), collection or self._collections.default_key
        return [
            Hit(id=item.id, score=float(score), name=item.name, file=item.file, thumbnail=f"/{thumb_url(key, item)}")
            for item, score in zip(results.items, results.scores, strict=True)
        ]


def _decode(image: str) -> bytes:
    try:
        return base64.b64decode(image.partition("base64,")[2] or image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage("The image is not base64 text.") from error


def _check_k(k: int) -> int:
    if not 1 <= k <= MAX_RESULTS:
        raise BadPrompt(f"Ask for 1 to {MAX_RESULTS} results, not {k}.")
    return k
