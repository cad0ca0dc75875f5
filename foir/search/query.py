"""What a search asks for. A `Query` checks itself once, when it is made; later code does not check it again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from foir import methods
from foir.arguments import check_fields, check_text
from foir.errors import BadPrompt
from foir.index.filters import checked_filters
from foir.patches import check_rule
from foir.prompts import Box, Prompt
from foir.ranking.feedback import RULE, feedback_rules
from foir.search.results import QueryImage

MODES = ("query", "query-db")
MAX_RESULTS = 1000
# Chosen together on voc12_part_dev and playroom-dev (docs/results.md), and the same in page, commands and API.
METHOD, CONTEXT = "attention_mask|phs", 0.1
TEXT_CONTEXT = 0.7  # weight of whole images for words, which may name a thing or describe a scene
FEEDBACK_CONTEXT = 0.5  # least weight of whole images once they are judged as such


@dataclass(frozen=True)
class Feedback:
    """Relevance judgements: with any of them the whole index is ranked again (`foir.ranking.feedback`).

    Attributes:
        liked: Ids of relevant results.
        disliked: Ids of irrelevant results, which come last.
        rule: One of `foir.ranking.feedback.feedback_rules()`. The default moves what regions are compared with too
            (`foir.ranking.feedback.move`); the others are about whole images alone.
        boxes: Where judged images show what was meant, (x0, y0, x1, y1) in their pixels by id; where an image has none,
            its region most similar to the query is taken.
    """

    liked: Collection[int] = ()
    disliked: Collection[int] = ()
    rule: str = RULE
    boxes: Mapping[int, Box] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the judgements.

        Raises:
            BadPrompt: Unknown rule, an id that is no integer, one that is liked and disliked, or a box that is empty or
                of an image that is not judged.
        """
        check_fields(self)
        if self.rule not in feedback_rules():
            raise BadPrompt(f"Unknown feedback {self.rule!r}: use one of {', '.join(feedback_rules())}.")
        object.__setattr__(self, "liked", tuple(self.liked))
        object.__setattr__(self, "disliked", tuple(self.disliked))
        if both := set(self.liked) & set(self.disliked):
            raise BadPrompt(f"Image {min(both)} is both liked and disliked.")
        for id, box in self.boxes.items():
            if id not in {*self.liked, *self.disliked}:
                raise BadPrompt(f"There is a box on image {id}, which is not judged.")
            if not (box[0] < box[2] and box[1] < box[3]):
                raise BadPrompt(f"The box on image {id} is empty.")

    def __bool__(self) -> bool:
        return bool(self.liked or self.disliked)


@dataclass(frozen=True, eq=False)
class Query:
    """A query image with a prompt, or words, or both.

    Scores of several parts are standardised over the index (mean 0, deviation 1) before they are added, since cosines
    between images and cosines between words and images have different spreads:
    `(1 - text_weight) * image + text_weight * (text - max(negative_text, 0))`; without an image
    `text - max(negative_text, 0)`. Where something is pointed at and the index has regions, the image's part is
    `(1 - context) * best region + context * whole image`, the first averaged over the things; that of words is the same
    with `TEXT_CONTEXT` where regions and words share a space. An image whose caption, keywords or file name say the
    words gains up to `SAID` (`foir.search.lexical`), and words in quotes must stand there. Feedback moves
    the vectors that regions and images are compared with; by another rule than the default it takes the place of the
    whole image's part, which then weighs at least `FEEDBACK_CONTEXT`.

    Attributes:
        image: From `Searcher.open`; None searches by words alone.
        prompt: What is pointed at, in pixels of the image; None searches with the whole image.
        text: What the results should show.
        negative_text: What they should not show; counts where an image shows more of it than usual.
        text_weight: Weight of the words against the image, 0 to 1.
        method: A registered method or chain for the whole image's part; `METHOD` by default, "cbir" without a prompt.
        options: Options of the method (`foir.methods.methods()[name].options`).
        context: Weight of the whole image against its best region, 0 to 1; `CONTEXT` by default. 1 leaves regions out.
        mode: "query" changes the query's feature only; "query-db" scores every image under the heads that the query
            selected.
        k: Number of results, 1 to 1000.
        patch_rule: How a region becomes patches: "any", "majority", "center" (`foir.patches.rasterise`).
        window: Side of a point's window in patches, odd.
        feedback: Relevance judgements.
        exclude: Ids of images to leave out.
        min_likelihood: Leave out results that hold what is searched for less likely than this, 0 to 1; None for none.
        filters: Facts of images and what they must be, such as {"date": "2024-06..2024-08"} (`foir.index.filters`).
    """

    image: QueryImage | None = None
    prompt: Prompt | None = None
    text: str | None = None
    negative_text: str | None = None
    text_weight: float = 0.5
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    context: float = CONTEXT
    mode: str = "query"
    k: int = 20
    patch_rule: str = "any"
    window: int = 3
    feedback: Feedback = field(default_factory=Feedback)
    exclude: Collection[int] = ()
    min_likelihood: float | None = None
    filters: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field; fit the prompt to the image and normalise the words.

        Raises:
            BadPrompt: A field, or a combination of fields, makes no sense.
        """
        check_fields(self)
        if self.mode not in MODES:
            raise BadPrompt(f"Unknown mode {self.mode!r}: use one of {', '.join(MODES)}.")
        if not 1 <= self.k <= MAX_RESULTS:
            raise BadPrompt(f"Ask for 1 to {MAX_RESULTS} results, not {self.k}.")
        if not 0 <= self.text_weight <= 1:
            raise BadPrompt(f"The weight of the text must be 0 to 1, not {self.text_weight}.")
        if not 0 <= self.context <= 1:
            raise BadPrompt(f"The weight of the context must be 0 to 1, not {self.context}.")
        if self.min_likelihood is not None and not 0 <= self.min_likelihood <= 1:
            raise BadPrompt(f"A likelihood is 0 to 1, not {self.min_likelihood}.")
        if self.image is None and (self.prompt is not None or self.text is None):
            raise BadPrompt("There is nothing to search for: give an image or a text.")
        check_rule(self.patch_rule, self.window)
        self._check_method()
        self._set("k", int(self.k))
        self._set("exclude", tuple(self.exclude))
        self._set("filters", checked_filters(self.filters))
        for name in ("text", "negative_text"):
            if (words := getattr(self, name)) is not None:
                self._set(name, normalise_query(words))
        if self.image is not None and self.prompt is not None:
            photo = self.image.photo
            self._set("prompt", self.prompt.fit(photo.size, orientation=photo.orientation))

    def _check_method(self) -> None:
        if self.image is None:
            return
        for step, _ in methods.resolve(self.method_name, self.options):
            if step.uses_prompt and self.prompt is None:
                raise BadPrompt(f"The method {self.method_name} needs a point, a box, a stroke or a mask.")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def method_name(self) -> str:
        """The method, or its default."""
        return self.method or ("cbir" if self.prompt is None else METHOD)

    @property
    def is_one_sided(self) -> bool:
        """Of an image and words only one counts."""
        return self.image is not None and self.text is not None and self.text_weight in (0, 1)

    @property
    def is_unrestricted(self) -> bool:
        """Every image may be a result, and only its similarity to the query counts."""
        return not (self.feedback or self.exclude or self.filters)


def normalise_query(text: str) -> str:
    """A text query with its white space normalised.

    Raises:
        BadPrompt: The text is empty, or see `foir.arguments.check_text`.
    """
    check_text(text)
    query = " ".join(text.split())
    if not query:
        raise BadPrompt("The text is empty: say what to look for.")
    return query
