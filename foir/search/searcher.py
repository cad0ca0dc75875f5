"""Searcher: models and an index, immutable and shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from weakref import WeakMethod

import numpy as np
from PIL import Image

from foir import image_text, images
from foir.arguments import checked
from foir.encoders.base import Encoder
from foir.errors import BadIndex, BadPrompt, Unavailable
from foir.image_text import ImageTextModel, TextFeatures
from foir.images import Photo
from foir.index import Index, Item, Space
from foir.index.loader import open_index
from foir.index.protocol import IndexLike
from foir.patches import PatchMask
from foir.prompts import Prompt
from foir.ranking import exact
from foir.ranking.candidates import candidates
from foir.ranking.fusion import Part, zscore_fuse
from foir.ranking.regions import best_regions, best_scores
from foir.ranking.scorer import Scorer, relevance_scores
from foir.ranking.topk import TopK, top_k
from foir.regions.encoder import RegionEncoder
from foir.regions.recipe import RegionRecipe
from foir.regions.views import to_pixels
from foir.search import query_encoder
from foir.search.encoder_check import check_encoder, load_encoder
from foir.search.query import FEEDBACK_CONTEXT, Query
from foir.search.query_encoder import QueryFeatures
from foir.search.results import HitRegion, QueryImage, SearchResults
from foir.segment import Outline, Segmenter, load_segmenter

NEIGHBOURS = 1000  # images that a database is asked for where foir ranks them again
REFINED = 64  # images beyond k that are scored again exactly
LIKED_NEIGHBOURHOODS = 3  # number of latest liked images whose neighbours become candidates


@dataclass(frozen=True, eq=False)
class _EncodedQuery:
    """A query in vectors.

    Attributes:
        image: Features of the query image; None for words alone.
        mode: How images are scored against the image's vector: "query" or "query-db".
        text: Features of text and negative text, in this order; None without words.
        signs: 1 for text and -1 for negative text, in the same order.
    """

    image: QueryFeatures | None
    mode: str
    text: TextFeatures | None
    signs: tuple[float, ...]

    @property
    def space(self) -> str:
        """The space that the query's first vector is compared in."""
        return "text" if self.image is None else "image"

    @property
    def things(self) -> tuple[np.ndarray, ...]:
        """Region vectors of each thing that is pointed at; empty where regions do not count."""
        return () if self.image is None else self.image.things


@dataclass(frozen=True, eq=False)
class _Candidates:
    """What is ranked: an index, the scorer of the image's space, rows that may not be results (bool [n]), and k."""

    index: Index
    scorer: Scorer | None
    excluded: np.ndarray
    k: int


class Searcher:
    """Searches one index with the models that made it. Holds no state of any user; safe to share between threads."""

    def __init__(self, index: IndexLike, encoder: Encoder, captioner: ImageTextModel | None = None) -> None:
        """Bind an index to its encoder; the model for words is loaded by the first search with words.

        Args:
            index: What is searched.
            encoder: The one that made it.
            captioner: Writes captions in place of the model for words.

        Raises:
            BadIndex: The index was made by another encoder, or by one that gave other features.
        """
        self.index, self.encoder = index, encoder
        self.space: Space = index.space("image")
        check_encoder(encoder, self.space)
        self.scorer, self.captioner = Scorer(encoder, self.space), captioner
        self.regions: RegionEncoder | None = None
        if index.regions is not None:
            self.regions = RegionEncoder(encoder, RegionRecipe.from_json(index.regions.recipe))
        self._model_lock, self._segmenter_lock = Lock(), Lock()
        self._model: ImageTextModel | None = None
        self._segmenter: Segmenter | None = None

    @classmethod
    @checked
    def load(
        cls, index: IndexLike | Path | str, *, device: str = "auto", dtype: str = "float32", captions: str | None = None
    ) -> Searcher:
        """Load the encoder that an index names.

        Args:
            index: An open index, a folder, or `hf://datasets/USER/NAME[@REVISION]`.
            device: "cpu", "cuda", "mps" or "auto".
            dtype: "float32", "bfloat16" or "float16".
            captions: A model that writes captions in place of the index's own ("blip2-captions", "coca").

        Raises:
            BadIndex: The index is damaged or was made by other weights.
            Unavailable: The encoder's weights are neither cached nor reachable.
        """
        index = open_index(index) if isinstance(index, Path | str) else index
        captioner = None if captions is None else image_text.load(captions, device=device, dtype=dtype)
        return cls(index, load_encoder(index.space("image"), device, dtype), captioner)

    @property
    def image_text(self) -> ImageTextModel:
        """The model that joins words with the index's images.

        Raises:
            BadIndex: The index has no space for words, or was made by another model.
            Unavailable: The model's weights are neither cached nor reachable.
        """
        with self._model_lock:
            if self._model is None:
                if "text" not in self.index.spaces:
                    raise BadIndex("This index has no text space: build it with --text mini to search by words.")
                space, encoder = self.index.space("text"), self.encoder
                if (space.encoder, space.revision) != (encoder.name, encoder.revision):
                    encoder = load_encoder(space, encoder.device.split(":")[0], "float32")
                    check_encoder(encoder, space)
                self._model = image_text.load(encoder)
            return self._model

    @checked
    def open(self, source: Path | str | bytes | Photo) -> QueryImage:
        """Read an image and run the encoder up to where prompts matter: once per image.

        Raises:
            BadImage: It cannot be read.
        """
        photo = source if isinstance(source, Photo) else images.read(source)
        weak_segment = WeakMethod(self._segment)  # an open image of a visitor must not keep models in memory

        def segment(image: Image.Image) -> Outline:
            own_segment = weak_segment()
            if own_segment is None:
                raise Unavailable("This collection was closed in the meantime: open the image again.")
            return own_segment(image)

        return QueryImage(photo, self.encoder.prefix(self.encoder.pixels([photo.image])), segment)

    def _segment(self, image: Image.Image) -> Outline:
        with self._segmenter_lock:
            if self._segmenter is None:
                self._segmenter = load_segmenter(self.encoder)
        return self._segmenter(image)

    @checked
    def caption(self, image: QueryImage, prompt: Prompt | None = None, *, strength: float | None = None) -> str | None:
        """One sentence about an image, or about what is pointed at; None where the model writes none.

        Args:
            image: From `open`.
            prompt: What the sentence is steered towards; None for the whole image.
            strength: How far it is steered, 0 for not at all; the model's default if left out.

        Raises:
            BadPrompt: The prompt does not fit the image.
            BadIndex: See `image_text`.
            Unavailable: See `image_text`.
        """
        model = self.image_text if self.captioner is None else self.captioner
        if model.caption is None:
            return None
        is_own = model.encoder is self.encoder
        tokens = image.prefix.block.tokens if is_own else model.encode_images([image.photo.image])
        return model.caption_image(tokens, image.photo, prompt, strength)

    @checked
    def search(self, query: Query) -> SearchResults:
        """Find the images that hold what is pointed at, or what words say, or both.

        An index in Milvus ranks and standardises the images near the query in place of the whole index.

        Raises:
            BadPrompt: An option is out of range for the encoder, or every image is filtered out.
            BadIndex: query-db mode without a head cache, words without a text space, or an id that is not there.
            Unavailable: The weights of a model are neither cached nor reachable.
        """
        encoded = self._encode_query(query)
        pool = self._candidates(query, encoded)
        is_plain = encoded.text is None and not encoded.things and query.is_unrestricted
        if pool.scorer is not None and encoded.image is not None and is_plain:
            return self._results(pool, encoded, pool.scorer.top_k(encoded.image.features, encoded.mode, pool.k))
        parts = self._score(query, encoded, pool)
        scores = zscore_fuse(parts) if len(parts) > 1 else parts[0].scores
        scores[pool.excluded] = -np.inf
        self._refine(scores, parts[: len(encoded.things)], encoded, pool)
        is_fused = bool(query.feedback) or len(parts) > max(1, len(encoded.things) + bool(encoded.things))
        return self._results(pool, encoded, top_k(scores, pool.k), is_fused=is_fused)

    def _encode_query(self, query: Query) -> _EncodedQuery:
        signs = {1.0: query.text, -1.0: query.negative_text}
        texts = {sign: text for sign, text in signs.items() if text is not None}
        image = query_encoder.encode_query(self.encoder, query, None if query.context == 1 else self.regions)
        text = self.image_text.encode_texts(list(texts.values())) if texts else None
        return _EncodedQuery(image, query.mode, text, tuple(texts))

    def _candidates(self, query: Query, encoded: _EncodedQuery) -> _Candidates:
        judged = query.feedback
        vectors: dict[str, list[np.ndarray]] = {}
        if encoded.image is not None:
            vectors[encoded.space] = [encoded.image.features.vectors[0].cpu().numpy()]
        if encoded.text is not None or encoded.image is None:
            vectors["text"] = [] if encoded.text is None or query.text is None else [encoded.text.vectors[0]]
        if judged.liked:
            vectors[encoded.space] += list(
                self.index.vectors(encoded.space, list(judged.liked)[-LIKED_NEIGHBOURHOODS:])
            )
        database_order_is_final = (
            encoded.text is None and query.is_unrestricted and encoded.mode == "query" and not encoded.things
        )
        count = query.k if database_order_is_final else max(NEIGHBOURS, 2 * query.k + len(query.exclude))
        index = candidates(
            self.index,
            vectors,
            count,
            things=encoded.things,
            ids=[*judged.liked, *judged.disliked],
            head_cache=encoded.mode == "query-db",
            filters=query.filters,
        )
        excluded = index.excluded_mask(query.filters)
        excluded[[index.row(id) for id in query.exclude if index is self.index or id in index]] = True
        if excluded.all():
            raise BadPrompt("Every image is excluded or filtered out.")
        scorer = None
        if encoded.image is not None:
            scorer = self.scorer if index is self.index else Scorer(self.encoder, index.space())
        return _Candidates(index, scorer, excluded, min(query.k, int((~excluded).sum())))

    def _score(self, query: Query, encoded: _EncodedQuery, pool: _Candidates) -> list[Part]:
        """The scores of each part of the query: of every thing's best region first, then of images, then of words."""
        parts: list[Part] = []
        judged = query.feedback
        liked, disliked = (sorted({pool.index.row(id) for id in ids}) for ids in (judged.liked, judged.disliked))
        if encoded.image is not None and pool.scorer is not None:
            features = encoded.image.features
            rows = pool.scorer.unit_vectors(features, encoded.mode)
            vector = features.vectors[0].cpu().numpy()
            scores = relevance_scores(rows, vector, liked, disliked, judged.rule)
            weight, context = 1 - query.text_weight if encoded.text is not None else 1.0, 1.0
            if encoded.things and pool.index.regions is not None:
                context = max(query.context, FEEDBACK_CONTEXT) if judged else query.context
                for thing in encoded.things:
                    best = best_scores(pool.index.regions, thing)
                    parts.append(Part(weight * (1 - context) / len(encoded.things), best))
            parts.append(Part(weight * context, scores))
        elif judged:
            shards = pool.index.space("text").shards
            parts.append(Part(1.0, relevance_scores(shards, None, liked, disliked, judged.rule)))
        weight = 1.0 if encoded.image is None else query.text_weight
        for vector, sign in zip(() if encoded.text is None else encoded.text.vectors, encoded.signs, strict=True):
            parts.append(Part(sign * weight, exact.scores(pool.index.space("text").shards, vector)))
        return parts

    def _refine(self, scores: np.ndarray, parts: Sequence[Part], encoded: _EncodedQuery, pool: _Candidates) -> None:
        """Score the first images again with exact region scores, in place; see `foir.ranking.regions.best_scores`."""
        if not parts or pool.index.regions is None:
            return
        rows = top_k(scores, min(pool.k + REFINED, len(scores))).rows[0]
        for part, thing in zip(parts, encoded.things, strict=True):
            exact_scores = [region.score for region in best_regions(pool.index.regions, rows.tolist(), thing)]
            scores[rows] += part.standard(np.array(exact_scores, np.float32)) - part.standard(part.scores[rows])

    def _results(
        self, pool: _Candidates, encoded: _EncodedQuery, top: TopK, *, is_fused: bool = False
    ) -> SearchResults:
        image = encoded.image
        gate = None if image is None else image.features.gates[0]
        rows = top.rows[0].tolist()
        items = tuple(pool.index.item(row) for row in rows)
        return SearchResults(
            items=items,
            scores=top.scores[0],
            features=None if image is None else image.features,
            mask=None if image is None else image.mask,
            is_fused=is_fused,
            heads=None if gate is None else gate.on,
            is_full_view=image is not None and image.is_full_view,
            notes=(() if image is None else image.notes) + (() if encoded.text is None else encoded.text.notes),
            regions=self._hit_regions(pool.index, rows, items, encoded.things),
        )

    def _hit_regions(
        self, index: Index, rows: Sequence[int], items: Sequence[Item], things: Sequence[np.ndarray]
    ) -> tuple[tuple[HitRegion, ...], ...]:
        """The best region of each result for each thing."""
        if not things or index.regions is None:
            return ()
        found = zip(*(best_regions(index.regions, rows, thing) for thing in things), strict=True)
        return tuple(
            tuple(HitRegion(to_pixels(region.box, (item.width, item.height)), region.score) for region in regions)
            for item, regions in zip(items, found, strict=True)
        )

    @checked
    def patch_mask(self, image: QueryImage, prompt: Prompt | None, *, rule: str = "any", window: int = 3) -> PatchMask:
        """The patches and pixels a prompt means on an image; the whole image for None.

        Raises:
            BadPrompt: The prompt does not fit the image.
        """
        return query_encoder.patch_mask(self.encoder, image, prompt, rule, window)
