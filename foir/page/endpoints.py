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

from foir.errors import BadImage, BadPrompt
from foir.page.session import JUDGED, Settings
from foir.page.steps import uploaded
from foir.prompts import Prompt

if TYPE_CHECKING:
    from foir.hits import Hits, Picture
    from foir.search import Searcher

MOST = 100  # results of one call


class Found(TypedDict):
    """One result: its id, how alike it is, what it is called, its file's name, and where its thumbnail is served."""

    id: int
    score: float
    name: str
    file: str
    thumbnail: str


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
    """The endpoints of one collection."""

    def __init__(self, searcher: Callable[[], "Searcher"]) -> None:
        """Bind them to what gives the Searcher; it may still be loading."""
        self._searcher = searcher

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

        Returns:
            Results, best first.
        """
        prompt, words = _prompt(boxes, points), Settings(text=text, minus=minus).words
        opened = self._open(picture, item)
        hits = self._searcher().search(
            opened,
            prompt,
            text=words.get("text"),
            minus=words.get("minus"),
            mix=mix,
            method=method or None,
            options={} if heads is None else {"h_on": heads},
            mode=mode,
            k=_count(k),
        )
        return self._found(hits)

    @endpoint
    def search_text(self, text: str, minus: str = "", k: int = 20) -> list[Found]:
        """Find the pictures of the collection that show what a text says.

        Args:
            text: What to look for, such as "a dog on a beach".
            minus: What the results should not show.
            k: How many results, at most 100.

        Returns:
            Results, best first.
        """
        words = Settings(text=text, minus=minus).words
        return self._found(self._searcher().search(text=words.get("text"), minus=words.get("minus"), k=_count(k)))

    @endpoint
    def caption(
        self,
        picture: str = "",
        item: int | None = None,
        boxes: list[list[float]] | None = None,
        points: list[list[float]] | None = None,
        strength: float | None = None,
    ) -> str:
        """Say in one sentence what a picture shows, or what is pointed at on it.

        Args:
            picture: A JPEG, PNG, WebP, GIF, BMP or TIFF file in base64.
            item: Or the id of a picture of the collection.
            boxes: What the sentence should lean towards: boxes [x0, y0, x1, y1] in pixels of the picture.
            points: Or points [x, y].
            strength: How far it leans, 0 for not at all.

        Returns:
            The sentence, written by a model; it can be wrong.
        """
        prompt = _prompt(boxes, points)
        opened = self._open(picture, item)
        return self._searcher().caption(opened, prompt, strength=strength) or ""

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

        Returns:
            Results, best first.
        """
        prompt = _prompt(boxes, points)
        opened = self._open(picture, item)
        if max(map(len, (liked, disliked, without or ()))) > JUDGED:
            raise BadPrompt(f"Judge at most {JUDGED} pictures.")
        hits = self._searcher().search(
            opened, prompt, k=_count(k), liked=liked, disliked=disliked, without=without or ()
        )
        return self._found(hits)

    def _open(self, picture: str, item: int | None) -> "Picture":
        searcher = self._searcher()
        if bool(picture) == (item is not None):
            raise BadPrompt("Give a picture or the id of one of the collection.")
        if item is None:
            return searcher.open(uploaded(_bytes(picture)))
        index = searcher.index
        return searcher.open(index.picture(index.item(index.row(item))))

    @staticmethod
    def _found(hits: "Hits") -> list[Found]:
        return [
            Found(id=item.id, score=float(score), name=item.name, file=item.file, thumbnail=f"/thumb/{item.id}")
            for item, score in zip(hits.items, hits.scores, strict=True)
        ]


def _prompt(boxes: list[list[float]] | None, points: list[list[float]] | None) -> Prompt | None:
    prompt = Prompt.from_json({"boxes": boxes or [], "points": points or []})
    return None if prompt.empty else prompt


def _bytes(picture: str) -> bytes:
    try:
        return base64.b64decode(picture.partition("base64,")[2] or picture, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage("The picture is not base64 text.") from error


def _count(k: int) -> int:
    if not 1 <= k <= MOST:
        raise BadPrompt(f"Ask for 1 to {MOST} results, not {k}.")
    return k
