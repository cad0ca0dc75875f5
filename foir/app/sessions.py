"""Values that describe the session of one user: what is open, what is searched for, what the controls are set to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from foir.arguments import check_fields
from foir.errors import BadPrompt
from foir.index import Index
from foir.index.protocol import IndexLike
from foir.prompts import Prompt
from foir.search.query import CONTEXT, METHOD
from foir.search.results import QueryImage, SearchResults

MAX_JUDGED = 1000  # relevant results, and irrelevant ones
MAX_TEXT = 300  # characters


@dataclass(frozen=True)
class Settings:
    """Values of the controls. The layout has one control of the same name for each field.

    Attributes:
        method: Name of a method or of a chain of methods.
        heads: Number of attention heads that head selection keeps.
        query_db: Apply the selected heads to the images of the collection too.
        text: Text query.
        negative_text: Text for what the results should not show.
        combine_text: Combine the text query with the marked object; otherwise the most recent of the two counts.
        text_weight: Weight of the text against the marked object, 0 to 1.
        min_score: Results below this cosine are cut off (`SearchResults.similarities`).
        context: Weight of the whole image against its best region, 0 to 1.
        outline: A point or a stroke selects the whole object under it.
        date: When results were taken (`foir.index.filters`); any time if empty, as with the next two.
        folder: In which folder they are.
        camera: With which camera they were taken.
    """

    method: str = METHOD
    heads: int = 5
    query_db: bool = False
    text: str = ""
    negative_text: str = ""
    combine_text: bool = False
    text_weight: float = 0.5
    min_score: float = 0.0
    context: float = CONTEXT
    outline: bool = False
    date: str = ""
    folder: str = ""
    camera: str = ""

    def __post_init__(self) -> None:
        """Check the types; ranges are the controls' own.

        Raises:
            BadPrompt: A value has another type than its field.
        """
        check_fields(self)

    @property
    def texts(self) -> dict[str, str]:
        """The texts that are not blank, by field name, stripped.

        Raises:
            BadPrompt: A text is too long.
        """
        texts = {"text": self.text.strip(), "negative_text": self.negative_text.strip()}
        if any(len(text) > MAX_TEXT for text in texts.values()):
            raise BadPrompt(f"Use at most {MAX_TEXT} characters of text.")
        return {name: text for name, text in texts.items() if text}

    @property
    def filters(self) -> dict[str, str]:
        """What results must be, by field of `foir.index.filters`."""
        values = {"date": self.date.strip(), "folder": self.folder, "camera": self.camera}
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class Judgements:
    """Relevance feedback: ids of relevant results, of irrelevant results, and of images to exclude.

    `places` are those of relevant results in the list where they were judged, by id: they stay there.
    """

    liked: tuple[int, ...] = ()
    disliked: tuple[int, ...] = ()
    exclude: tuple[int, ...] = ()
    places: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], exclude: Iterable[int]) -> Judgements:
        """Read what the browser sends: {"liked": [id], "disliked": [id]}.

        Raises:
            BadPrompt: The data has another form, or more ids than are allowed.
        """
        liked, disliked = data.get("liked", []), data.get("disliked", [])
        for ids in (liked, disliked):
            if not isinstance(ids, list) or len(ids) > MAX_JUDGED or not all(type(id) is int for id in ids):
                raise BadPrompt(f"Feedback is two lists of at most {MAX_JUDGED} images.")
        return cls(tuple(liked), tuple(disliked), tuple(sorted(exclude)))

    def placed(self, session: Session) -> Judgements:
        """With the places of relevant results among those that a session shows, or where they were before."""
        shown = () if session.results is None else session.results.items
        places = {**session.judgements.places, **{item.id: place for place, item in enumerate(shown)}}
        return replace(self, places={id: places[id] for id in self.liked if id in places})

    def within(self, index: Index) -> Judgements:
        """Those of images that an index has."""
        liked, disliked, exclude = (
            tuple(id for id in ids if id in index) for ids in (self.liked, self.disliked, self.exclude)
        )
        return Judgements(liked, disliked, exclude, {id: self.places[id] for id in liked if id in self.places})


@dataclass(frozen=True, eq=False)
class Session:
    """State of one user.

    Attributes:
        image: The query image.
        name: Name of the query image.
        preview: The query image as the browser gets it: a JPEG file and its (width, height).
        suggestions: Known objects of the query image, {"name": str, "box": [x0, y0, x1, y1]}.
        collection: Key of the collection that is searched.
        item_id: Id of the query image where it belongs to the collection; it is excluded from the results.
        token: Identifies this opening of the image, so that marks drawn on another image are rejected.
        prompt: The visual prompt.
        forced_heads: Heads that the user switched on (True) or off (False) for this prompt.
        text_only: The most recent query was a text, not a mark on the image.
        texts: The texts that were searched for; see `Settings.texts`.
        outlined: The search took the whole object under the mark.
        method_title: Title of the method, where there is a prompt.
        results: Results of the search.
        rounds: The judgements of each feedback round; each includes those before it.
    """

    image: QueryImage
    name: str
    preview: tuple[bytes, tuple[int, int]]
    suggestions: tuple[Mapping[str, Any], ...] = ()
    collection: str = ""
    item_id: int | None = None
    token: str = field(default_factory=lambda: uuid4().hex)
    prompt: Prompt | None = None
    forced_heads: Mapping[int, bool] = field(default_factory=dict)
    text_only: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    outlined: bool = False
    method_title: str = ""
    results: SearchResults | None = None
    rounds: tuple[Judgements, ...] = ()

    def within(self, index: IndexLike) -> Session:
        """The session without images that an update removed from its collection."""
        if not isinstance(index, Index) or self.results is None:
            return self
        results = self.results.within(index)
        rounds = tuple(each.within(index) for each in self.rounds)
        return (
            self if (results, rounds) == (self.results, self.rounds) else replace(self, results=results, rounds=rounds)
        )

    @property
    def judgements(self) -> Judgements:
        """The judgements of the last round."""
        return self.rounds[-1] if self.rounds else Judgements()

    @property
    def is_judged(self) -> bool:
        """Whether any result was judged."""
        return bool(self.judgements.liked or self.judgements.disliked)


@dataclass(frozen=True, eq=False)
class PageUpdate:
    """Outcome of an action: the new session, and the values of pointer and results (see assets/*.js)."""

    session: Session
    pointer: dict[str, Any]
    results: dict[str, Any]
