"""What one visitor of the page is looking at, and what the page's controls say; nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from foir.errors import BadPrompt
from foir.prompts import Prompt

if TYPE_CHECKING:
    from foir.search.results import QueryImage, SearchResults

MAX_JUDGED = 1000  # most results that can be called right, and wrong
MAX_TEXT = 300  # characters a text may have


@dataclass(frozen=True)
class Settings:
    """What the controls say.

    Attributes:
        method: A method or chain.
        heads: How many heads it keeps.
        both: Whether the collection is shown through the same heads.
        text: Words for what to find.
        minus: Words for what not to find.
        together: Words and what is pointed at count at once; else what was done last.
        mix: Weight of words beside what is pointed at, 0 to 1.
        least: Results less alike than this cosine are cut off; only where scores are cosines.
        small: What is pointed at is looked for alone, among the objects of every picture.
        outline: A click or a stroke means the whole thing that it is on, up to its outline.
    """

    method: str = "phs"
    heads: int = 5
    query_db: bool = False
    text: str = ""
    negative_text: str = ""
    combine_text: bool = False
    text_weight: float = 0.5
    min_score: float = 0.0
    small_object: bool = False
    outline: bool = False

    @property
    def texts(self) -> dict[str, str]:
        """The words that say something.

        Raises:
            BadPrompt: They are too many.
        """
        said = {name: text.strip() for name, text in (("text", self.text), ("minus", self.negative_text)) if text.strip()}
        if any(len(text) > MAX_TEXT for text in said.values()):
            raise BadPrompt(f"Say it in at most {MAX_TEXT} characters.")
        return said


@dataclass(frozen=True)
class Judgements:
    """Ids of results that were right, of those that were wrong, and of pictures to leave out."""

    liked: tuple[int, ...] = ()
    disliked: tuple[int, ...] = ()
    exclude: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, said: Mapping[str, Any], without: Sequence[int]) -> Judgements:
        """What the browser sent: {"liked": [id], "disliked": [id]}.

        Raises:
            BadPrompt: It is not that, or far too much.
        """
        sides = [said.get(name, []) for name in ("liked", "disliked")]
        for side in sides:
            if not isinstance(side, list) or len(side) > MAX_JUDGED or not all(type(id) is int for id in side):
                raise BadPrompt(f"Judgements are two lists of at most {MAX_JUDGED} pictures.")
        return cls(tuple(sides[0]), tuple(sides[1]), tuple(sorted(without)))


@dataclass(frozen=True, eq=False)
class Session:
    """What one visitor is looking at.

    Attributes:
        picture: The opened picture.
        name: What to call it.
        shown: It as the browser gets it, a JPEG file, and that version's size.
        tries: Known things on it, worth pointing at.
        collection: Key of the collection that is searched.
        item: Its id, where it is a picture of the collection; it is no result of its own.
        token: Names this opening of the picture, so that no mark drawn on another is taken for it.
        prompt: What is pointed at.
        forced: Heads that were switched by hand, on or off, for what is pointed at.
        said: The last wish was in words, not a mark on the picture.
        words: What was searched for in words, "text" and "minus".
        small: It was looked for alone, as a small thing.
        outlined: The search took it for the whole thing that was clicked, up to its outline.
        way: What the way of looking is called, where something is pointed at.
        hits: What was found.
        opinions: What was judged so far, one entry for each time of refining; the last holds all of it.
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
    small_object: bool = False
    outlined: bool = False
    method_title: str = ""
    results: SearchResults | None = None
    rounds: tuple[Judgements, ...] = ()

    @property
    def judgements(self) -> Judgements:
        """What counts now."""
        return self.rounds[-1] if self.rounds else Judgements()


@dataclass(frozen=True, eq=False)
class PageUpdate:
    """A step's outcome: the session after it, and the values of the page's two parts (see assets/page/*.js)."""

    session: Session
    pointer: dict[str, Any]
    results: dict[str, Any]
