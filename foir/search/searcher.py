"""Searcher: models and an index, immutable and shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakMethod

import numpy as np
from PIL import Image

from foir import image_text, images
from foir.encoders.base import Encoder
from foir.errors import BadIndex, BadPrompt, Unavailable
from foir.image_text import ImageTextModel
from foir.images import Photo
from foir.index import OBJECTS, Space
from foir.index.loader import open_index
from foir.index.protocol import IndexLike
from foir.patches import PatchMask
from foir.prompts import Prompt
from foir.ranking import exact
from foir.ranking.feedback import feedback_rules
from foir.ranking.scorer import Scorer, check_mode, relevance_scores
from foir.search import query_encoder
from foir.search.encoder_check import check_encoder, load_encoder
from foir.search.results import QueryImage, SearchResults
from foir.segment import Outline, Segmenter, load_segmenter

MAX_RESULTS = 1000
NEAR = 1000  # pictures that a database is asked for, where its own order is not the last word
LEARNT = 3  # of the pictures called right, those whose neighbours it is asked for too


class Searcher:
    """Searches one index with the models that made it. Holds no state of any user; safe to share between threads."""

    def __init__(self, index: IndexLike, encoder: Encoder, writer: ImageTextModel | None = None) -> None:
        """Bind an index to its encoder; the model for words is loaded when words are first searched for.

        Args:
            index: What is searched.
            encoder: The one that made it.
            writer: Writes captions in the place of the model for words.

        Raises:
            BadIndex: The index was made by another encoder, or by one that gave other features.
        """
        self.index, self.encoder = index, encoder
        self.space: Space = index.space("image")
        check_encoder(encoder, self.space)
        self.scorer, self.writer = Scorer(encoder, self.space), writer
        self._loading, self._growing = Lock(), Lock()
        self._model: ImageTextModel | None = None
        self._segmenter: Segmenter | None = None

    @classmethod
    def load(
        cls, index: IndexLike | Path | str, *, device: str = "auto", dtype: str = "float32", captions: str | None = None
    ) -> Searcher:
        """Load the encoder that an index names; the index may be open already, a folder, or an address on the Hub.

        `captions` names a model that writes captions in the place of the index's own ("blip2-captions", "coca").

        Raises:
            BadIndex: The index is damaged or was made by other weights.
            Unavailable: The encoder's weights are not at hand.
        """
        index = open_index(index) if isinstance(index, Path | str) else index
        writer = None if captions is None else image_text.load(captions, device=device, dtype=dtype)
        return cls(index, load_encoder(index.space("image"), device, dtype), writer)

    @property
    def image_text(self) -> ImageTextModel:
        """The model that joins words with the index's pictures.

        Raises:
            BadIndex: The index has no space for words, or was made by another model.
            Unavailable: The model's weights are not at hand.
        """
        with self._loading:
            if self._model is None:
                if "text" not in self.index.spaces:
                    raise BadIndex("This index knows no words: build it with --text mini to search by text.")
                space, encoder = self.index.space("text"), self.encoder
                if (space.encoder, space.revision) != (encoder.name, encoder.revision):
                    encoder = load_encoder(space, encoder.device.split(":")[0], "float32")
                    check_encoder(encoder, space)
                self._model = image_text.load(encoder)
            return self._model

    def open(self, source: Path | str | bytes | Photo) -> QueryImage:
        """Read a picture and run the encoder up to where prompts matter.

        Raises:
            BadImage: It cannot be read.
        """
        photo = source if isinstance(source, Photo) else images.read(source)
        alive = WeakMethod(self._segment)  # a picture that a visitor looks at must not keep models in memory

        def segment(image: Image.Image) -> Outline:
            own = alive()
            if own is None:
                raise Unavailable("This collection was closed in the meantime: open the picture again.")
            return own(image)

        return QueryImage(photo, self.encoder.prefix(self.encoder.pixels([photo.image])), segment)

    def _segment(self, image: Image.Image) -> Outline:
        with self._growing:
            if self._segmenter is None:
                self._segmenter = load_segmenter(self.encoder)
        return self._segmenter(image)

    def caption(
        self, picture: QueryImage, prompt: Prompt | None = None, *, strength: float | None = None
    ) -> str | None:
        """One sentence about a picture, or about what is pointed at on it; None where the model writes none.

        Args:
            picture: From `open`.
            prompt: What the sentence should lean towards; None for the whole picture.
            strength: How far it leans, 0 for not at all; the model's own choice if left out.

        Raises:
            BadPrompt: The prompt does not fit the picture.
            BadIndex: See `crossmodal`.
            Unavailable: See `crossmodal`.
        """
        model = self.image_text if self.writer is None else self.writer
        if model.caption is None:
            return None
        own = model.encoder is self.encoder
        tokens = picture.prefix.block.tokens if own else model.encode_images([picture.photo.image])
        return model.caption_image(tokens, picture.photo, prompt, strength)

    def search(
        self,
        picture: QueryImage | None = None,
        prompt: Prompt | None = None,
        *,
        text: str | None = None,
        minus: str | None = None,
        mix: float = 0.5,
        method: str | None = None,
        options: Mapping[str, Any] | None = None,
        mode: str = "query",
        k: int = 20,
        rule: str = "any",
        window: int = 3,
        liked: Sequence[int] = (),
        disliked: Sequence[int] = (),
        feedback: str = "nn_ratio",
        without: Sequence[int] = (),
        only: Mapping[str, str | int] | None = None,
    ) -> SearchResults:
        """Find pictures that hold what is pointed at, or what words say, or both.

        Where there are several wishes, each is scored on the whole index and its scores are standardised (mean 0,
        deviation 1), since cosines between pictures spread otherwise than those between words and pictures. The sum is
        (1 - mix) * picture + mix * (text - max(minus, 0)), without a picture text - max(minus, 0): a picture is no
        better for showing even less of what is not wanted than others do. With likes and dislikes, how relevant they
        make a picture stands in the place of its likeness to the query picture, or beside the words.

        Args:
            picture: From `open`; None searches by words alone.
            prompt: What is pointed at; None searches with the whole picture.
            text: Words for what the results should show.
            minus: Words for what they should not show.
            mix: Weight of words against the picture, 0 to 1.
            method: A registered method or chain; "phs" by default where there is a prompt, "cbir" where there is none.
            options: The method's options (`foir.methods.methods()[name].options`).
            mode: "query" changes the query's feature only; "query-db" shows every picture of the index through the
                heads the query selected; "small" looks for what is pointed at, alone and as it is, among the objects of
                every picture, however small they are there.
            k: How many results, 1 to 1000.
            rule: How an area becomes patches: "any", "majority", "center".
            window: Side of a point's window in patches, odd.
            liked: Ids of pictures that were right; with them the whole index is ranked again (`foir.ranking.feedback`).
            disliked: Ids of pictures that were wrong.
            feedback: One of `foir.ranking.feedback.feedback_rules()`.
            without: Ids of pictures to leave out, such as those that were shown before.
            only: Fields of pictures and what they must be, such as {"licence": "MIT"} (`foir.index.records.FIELDS`).

        Of an index that is kept in Milvus, what is found near the wishes is scored in the place of the whole index, and
        standardised over that.

        Raises:
            BadPrompt: The prompt, the words, method, an option, the mode, mix or k makes no sense.
            Unavailable: See `foir.segment.load_segmenter`.
            BadIndex: query-db mode on an index without a head cache, small on one without objects; words on an index
                without a space for them; an id that is not of this index.
        """
        check_mode(mode)
        if feedback not in feedback_rules():
            raise BadPrompt(f"Unknown feedback {feedback!r}: use one of {', '.join(feedback_rules())}.")
        if not 1 <= k <= MAX_RESULTS:
            raise BadPrompt(f"Ask for 1 to {MAX_RESULTS} results, not {k}.")
        if not 0 <= mix <= 1:
            raise BadPrompt(f"The weight of words lies between 0 and 1, not at {mix}.")
        if picture is None and (prompt is not None or text is None):
            raise BadPrompt("There is nothing to search for: give a picture or words.")
        if set(liked) & set(disliked):
            raise BadPrompt(f"The picture {min(set(liked) & set(disliked))} is called right and wrong at once.")
        seen: query_encoder.QueryFeatures | None = None
        pointed = "image"
        if mode == "small":
            pointed, mode = OBJECTS, "query"
            if OBJECTS not in self.index.spaces:
                raise BadIndex("This index does not know the objects of its pictures: build it with --objects mao.")
            if picture is None or prompt is None:
                raise BadPrompt("To find a small thing, point at it.")
            if method is not None or options:
                raise BadPrompt("Small things are found in one way only: leave out the method and its options.")
            seen = query_encoder.encode_object_crop(self.encoder, picture, prompt, rule, window)
        elif picture is not None:
            seen = query_encoder.encode_query(self.encoder, picture, prompt, method, options, rule, window)
        words = [image_text.normalise_query(wish) for wish in (text, minus) if wish is not None]
        said = self.image_text.encode_texts(words) if words else None
        judged = bool(liked or disliked)
        whole = seen is not None and said is None and not judged and not without and not only
        wishes: dict[str, list[np.ndarray]] = {}
        if seen is not None:
            wishes[pointed] = [seen.features.vectors[0].cpu().numpy()]
        if said is not None or seen is None:
            wishes["text"] = [] if said is None or text is None else [said.vectors[0]]
        if liked:
            space = "text" if seen is None else pointed
            wishes[space] += list(self.index.vectors(space, list(liked)[-LEARNT:]))
        near = self.index.candidates(
            wishes,
            k + len(without) if whole and mode == "query" else max(NEAR, 2 * k + len(without)),
            ids=[*liked, *disliked],
            heads=mode == "query-db",
            only=only,
        )
        own = near is self.index and pointed == "image"
        scorer = self.scorer if own else Scorer(self.encoder, near.space(pointed)) if seen is not None else None
        wanted, unwanted = (sorted({near.row(id) for id in ids}) for ids in (liked, disliked))
        hidden = near.excluded_mask(only)
        hidden[[near.row(id) for id in without if near is self.index or id in near]] = True
        if hidden.all():
            raise BadPrompt("No picture is left to be found.")
        k = min(k, int((~hidden).sum()))
        if whole and seen is not None and scorer is not None:
            top, weighed = scorer.top_k(seen.features, mode, k), False
        else:
            parts: list[tuple[float, np.ndarray]] = []
            if seen is not None and scorer is not None:
                rows, vector = scorer.unit_vectors(seen.features, mode), seen.features.vectors[0].cpu().numpy()
                parts.append((1 - mix, relevance_scores(rows, vector, wanted, unwanted, feedback)))
            elif judged:
                parts.append((1.0, relevance_scores(near.space("text").shards, None, wanted, unwanted, feedback)))
            share = 1.0 if seen is None else mix
            for wish, sign in zip(() if said is None else said.vectors, _signs(text, minus), strict=True):
                parts.append((sign * share, exact.scores(near.space("text").shards, wish)))
            weighed = judged or len(parts) > 1
            scores = exact.zscore_fuse(parts) if len(parts) > 1 else parts[0][1]
            scores[hidden] = -np.inf
            top = exact.top_k(scores, k)
        gate = None if seen is None else seen.features.gates[0]
        return SearchResults(
            items=tuple(near.item(int(row)) for row in top.rows[0]),
            scores=top.scores[0],
            features=None if seen is None else seen.features,
            mask=None if seen is None else seen.mask,
            is_fused=weighed,
            heads=None if gate is None else gate.on,
            is_full_view=seen is not None and seen.is_full_view,
            notes=(() if seen is None else seen.notes) + (() if said is None else said.notes),
        )

    def patch_mask(
        self, picture: QueryImage, prompt: Prompt | None, *, rule: str = "any", window: int = 3
    ) -> PatchMask:
        """The patches and pixels a prompt means on a picture; the whole picture for None.

        Raises:
            BadPrompt: The prompt does not fit the picture.
        """
        return query_encoder.patch_mask(self.encoder, picture, prompt, rule, window)


def _signs(text: str | None, minus: str | None) -> tuple[float, ...]:
    return (() if text is None else (1.0,)) + (() if minus is None else (-1.0,))
