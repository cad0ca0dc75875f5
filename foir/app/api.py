"""API of the page for programs and agents: stateless endpoints with typed arguments.

Gradio makes an endpoint and an MCP tool of each method, from its signature and docstring. It reads annotations at run
time, so this module does not postpone them. Images are base64 text, not files or addresses: nothing that a caller names
is opened or fetched. Each error is one sentence.
"""

import base64
import binascii
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from foir.app.collections import Collections
from foir.app.endpoint import endpoint
from foir.app.pictures import read_picture, read_upload
from foir.app.sessions import MAX_JUDGED, Settings
from foir.app.views import thumb_url
from foir.errors import BadImage, BadPrompt
from foir.prompts import Prompt
from foir.search.query import CONTEXT, Feedback, Query
from foir.search.results import QueryImage

if TYPE_CHECKING:
    from foir.search.searcher import Searcher

MAX_RESULTS = 100  # of one call
Marks = list[list[float]] | None  # one list of coordinates for each mark


class Hit(TypedDict):
    """One result: its id, score, name, file name, and the path of its thumbnail on this server.

    `regions` says where it holds each marked object, and what the text names:
    {"box": [x0, y0, x1, y1] in pixels, "score": cosine}. `likelihood` says how likely it holds them, 0 to 1; null where
    none is fitted.
    """

    id: int
    score: float
    name: str
    file: str
    thumbnail: str
    regions: list[dict[str, Any]]
    likelihood: float | None


class Collection(TypedDict):
    """A collection: the key that names it in calls, and its title."""

    key: str
    title: str


@dataclass(frozen=True)
class MarkedImage:
    """A query image, given by its file or its id, and the marks on it.

    Attributes:
        image: The query image: a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file in base64.
        item: Or the id of an image of the collection.
        boxes: Boxes [x0, y0, x1, y1], each around an object, in pixels of the image. Without marks, the whole image.
        points: Or points [x, y], each on an object of its own.
    """

    image: str = ""
    item: int | None = None
    boxes: Marks = None
    points: Marks = None


@dataclass(frozen=True)
class Comparison:
    """How images are compared with the marked object.

    Attributes:
        method: Method for the whole image, such as phs, foveal or crop; attention_mask|phs if empty.
        heads: Number of attention heads to keep.
        mode: query; query-db applies the selected heads to the collection too.
        context: Weight of the whole image against its best region, 0 to 1.
    """

    method: str = ""
    heads: int | None = None
    mode: Literal["query", "query-db"] = "query"
    context: float = CONTEXT


@dataclass(frozen=True)
class Target:
    """What to return from where.

    Attributes:
        k: Number of results, at most 100.
        collection: Key of the collection to search; the default one if empty.
        min_likelihood: Leave out results that hold what is searched for less likely than this, 0 to 1.
        filters: What results must be, by field: date ("2024-06..2024-08"), folder, camera ("Pixel*"), lens, keyword,
            rating ("4.."), width, height, file, caption, source or licence.
    """

    k: int = 20
    collection: str = ""
    min_likelihood: float | None = None
    filters: dict[str, str] | None = None

    @property
    def wanted(self) -> dict[str, Any]:
        """Fields of `Query`.

        Raises:
            BadPrompt: The number is out of range.
        """
        if not 1 <= self.k <= MAX_RESULTS:
            raise BadPrompt(f"Ask for 1 to {MAX_RESULTS} results, not {self.k}.")
        return {"k": self.k, "min_likelihood": self.min_likelihood, "filters": self.filters or {}}


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
        marked: MarkedImage,
        text: str = "",
        negative_text: str = "",
        text_weight: float = 0.5,
        *,
        how: Comparison,
        target: Target,
    ) -> list[Hit]:
        """Find the images of the collection that contain the marked object of a query image.

        Args:
            marked: The query image, and the marked object.
            text: Text to combine with the object.
            negative_text: Text for what the results should not show.
            text_weight: Weight of the text against the image, 0 to 1.
            how: The method, and what counts.
            target: The number of results, and the collection.

        Returns:
            Results, best first.
        """
        texts: dict[str, Any] = Settings(text=text, negative_text=negative_text).texts
        searcher, query_image, prompt = self._open(marked, target.collection)
        query = Query(
            query_image,
            prompt,
            **texts,
            text_weight=text_weight,
            method=how.method or None,
            options={} if how.heads is None else {"h_on": how.heads},
            mode=how.mode,
            context=how.context,
            **target.wanted,
        )
        return self._search(searcher, query, target.collection)

    @endpoint
    def search_text(self, text: str, negative_text: str = "", *, target: Target) -> list[Hit]:
        """Find the images of the collection that match a text.

        Args:
            text: What to look for, such as "a dog on a beach".
            negative_text: Text for what the results should not show.
            target: The number of results, and the collection.

        Returns:
            Results, best first.
        """
        texts: dict[str, Any] = Settings(text=text, negative_text=negative_text).texts
        searcher = self._collections.controller(target.collection).searcher
        return self._search(searcher, Query(**texts, **target.wanted), target.collection)

    @endpoint
    def caption(self, marked: MarkedImage, strength: float | None = None, collection: str = "") -> str:
        """Describe an image, or the marked object on it, in one sentence.

        Args:
            marked: The image, and the marked object.
            strength: Strength of steering towards the object, 0 for none.
            collection: Key of the collection whose model writes the caption; the default one if empty.

        Returns:
            The caption, written by a model; it can be wrong.
        """
        searcher, query_image, prompt = self._open(marked, collection)
        return searcher.caption(query_image, prompt, strength=strength) or ""

    @endpoint
    def feedback(
        self,
        liked: list[int],
        disliked: list[int],
        marked: MarkedImage,
        exclude: list[int] | None = None,
        meant: dict[str, list[float]] | None = None,
        *,
        target: Target,
    ) -> list[Hit]:
        """Rank the whole collection again after some results were judged.

        Args:
            liked: Ids of relevant results.
            disliked: Ids of irrelevant results, which come last.
            marked: The query image, and the marked object.
            exclude: Ids of images to exclude, such as earlier results.
            meant: Where a judged image shows what is meant, by its id: a box [x0, y0, x1, y1] in its pixels. Without
                one, the region that is most similar to the marked object.
            target: The number of results, and the collection.

        Returns:
            Results, best first.
        """
        searcher, query_image, prompt = self._open(marked, target.collection)
        exclude = exclude or []
        if max(map(len, (liked, disliked, exclude))) > MAX_JUDGED:
            raise BadPrompt(f"Judge at most {MAX_JUDGED} images.")
        if not all(id.isdecimal() and len(box) == 4 for id, box in (meant or {}).items()):
            raise BadPrompt("What is meant is a box of four numbers for the id of an image.")
        boxes = {int(id): (box[0], box[1], box[2], box[3]) for id, box in (meant or {}).items()}
        judged = Feedback(liked, disliked, boxes=boxes)
        query = Query(query_image, prompt, feedback=judged, exclude=exclude, **target.wanted)
        return self._search(searcher, query, target.collection)

    def _open(self, marked: MarkedImage, collection: str) -> tuple["Searcher", QueryImage, Prompt | None]:
        """The Searcher of a collection, the query image and the prompt."""
        prompt = Prompt.from_json({"boxes": marked.boxes or [], "points": marked.points or []})
        if bool(marked.image) == (marked.item is not None):
            raise BadPrompt("Give either an image or the id of an image of the collection.")
        searcher = self._collections.controller(collection).searcher
        if marked.item is None:
            query_image = searcher.open(read_upload(_decode(marked.image)))
        else:
            query_image = searcher.open(read_picture(searcher.index, searcher.index.get(marked.item)))
        return searcher, query_image, None if prompt.empty else prompt

    def _search(self, searcher: "Searcher", query: Query, collection: str) -> list[Hit]:
        results, key = searcher.search(query), collection or self._collections.default_key
        return [
            Hit(
                id=item.id,
                score=float(results.scores[place]),
                name=item.name,
                file=item.file,
                thumbnail=f"/{thumb_url(key, item)}",
                regions=[asdict(region) for region in (results.regions[place] if results.regions else ())],
                likelihood=None if results.likelihoods is None else round(float(results.likelihoods[place]), 3),
            )
            for place, item in enumerate(results.items)
        ]


def _decode(image: str) -> bytes:
    try:
        return base64.b64decode(image.partition("base64,")[2] or image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage("The image is not base64 text.") from error
