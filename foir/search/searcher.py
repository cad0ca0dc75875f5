"""Searcher: models and an index, immutable and shared."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from weakref import WeakMethod

import numpy as np
from PIL import Image

from foir import image_text, images
from foir.arguments import checked
from foir.encoders.base import Encoder
from foir.errors import BadIndex, BadPrompt, Unavailable
from foir.image_text import ImageTextModel
from foir.images import Photo
from foir.index import Index, Space
from foir.index.loader import open_index
from foir.index.protocol import IndexLike
from foir.patches import PatchMask
from foir.prompts import Prompt
from foir.ranking.candidates import candidates
from foir.ranking.scorer import Scorer
from foir.regions.encoder import RegionEncoder
from foir.regions.recipe import RegionRecipe
from foir.search import query_encoder, scoring
from foir.search.encoder_check import check_encoder, load_encoder
from foir.search.judging import judge
from foir.search.lexical import TextIndex
from foir.search.likelihood import LikelihoodModel, model_of, with_likelihoods
from foir.search.notes import query_notes
from foir.search.query import Query
from foir.search.results import QueryImage, SearchResults
from foir.search.scoring import Candidates, EncodedQuery, Ranking
from foir.segment import Outline, Segmenter, load_segmenter

# Images that a database is asked for where foir ranks them again; fewer near each thing, since all their regions come.
NEIGHBOURS, NEAR_THINGS = 1000, 300
LIKED_NEIGHBOURHOODS = 3  # number of latest liked images whose neighbours become candidates


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
        check_encoder(encoder, self.space, index)
        self.scorer, self.captioner = Scorer(encoder, self.space), captioner
        self.regions: RegionEncoder | None = None
        self.likelihood: LikelihoodModel | None = None
        if index.regions is not None:
            dim = len(self.space.reference_feature)
            recipe = RegionRecipe.from_json(index.regions.recipe, dim)
            self.regions, self.likelihood = RegionEncoder(encoder, recipe), model_of(encoder, recipe)
        self._model_lock, self._segmenter_lock = Lock(), Lock()
        self._model: ImageTextModel | None = None
        self._segmenter: Segmenter | None = None

    @classmethod
    @checked
    def load(
        cls, index: IndexLike | Path | str, *, device: str = "auto", dtype: str = "auto", captions: str | None = None
    ) -> Searcher:
        """Load the encoder that an index names.

        Args:
            index: An open index, a folder, or `hf://datasets/USER/NAME[@REVISION]`.
            device: "cpu", "cuda", "mps" or "auto".
            dtype: "float32", "bfloat16", "float16" or "auto" (`foir.encoders.resolve_dtype`; float32 for captions).
            captions: A model that writes captions in place of the index's own ("blip2-captions", "coca").

        Raises:
            BadIndex: The index is damaged or was made by other weights.
            Unavailable: The encoder's weights are neither cached nor reachable.
        """
        index = open_index(index) if isinstance(index, Path | str) else index
        exact = "float32" if dtype == "auto" else dtype
        captioner = None if captions is None else image_text.load(captions, device=device, dtype=exact)
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
                    check_encoder(encoder, space, self.index)
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

        An index in Milvus ranks the images near the query in place of the whole index, and standardises scores over
        them or, where regions count, over its background.

        Raises:
            BadPrompt: An option is out of range for the encoder, or every image is filtered out.
            BadIndex: query-db mode without a head cache, words without a text space, or an id that is not there.
            Unavailable: The weights of a model are neither cached nor reachable.
        """
        encoded = self._encode_query(query)
        pool = self._candidates(query, encoded)
        encoded, pool = self._match_words(query, encoded, pool)
        encoded = judge(query, encoded, pool.index)
        is_plain = encoded.text is None and not encoded.things and query.is_unrestricted
        if pool.scorer is not None and encoded.image is not None and is_plain:
            ranking = Ranking(pool.scorer.top_k(encoded.image.features, encoded.mode, pool.k))
        else:
            ranking = scoring.rank(query, encoded, pool)
        results = self._results(query, pool, encoded, ranking)
        return results if query.min_likelihood is None else results.at_least(query.min_likelihood)

    def _encode_query(self, query: Query) -> EncodedQuery:
        signs = {1.0: query.text, -1.0: query.negative_text}
        texts = {sign: text for sign, text in signs.items() if text is not None}
        regions = None if query.context == 1 else self.regions
        image = query_encoder.encode_query(self.encoder, query, regions)
        if not texts:
            return EncodedQuery(image, query.mode, None, ())
        text = self.image_text.encode_texts(list(texts.values()))
        meets_words = regions is not None and regions.meets_words and self.image_text.encoder is self.encoder
        return EncodedQuery(image, query.mode, text, tuple(texts), meets_words)

    def _match_words(self, query: Query, encoded: EncodedQuery, pool: Candidates) -> tuple[EncodedQuery, Candidates]:
        """The query with the images that say its words, and the images that say what is in quotes.

        Raises:
            BadPrompt: No image is left.
        """
        if query.text is None:
            return encoded, pool
        texts = self._texts if pool.index is self.index else None
        matches = (texts or TextIndex(pool.index)).find(query.text)
        if matches.quoted is not None:
            excluded = pool.excluded | ~matches.quoted
            if excluded.all():
                raise BadPrompt("No image says all that is in quotes.")
            pool = replace(pool, excluded=excluded, k=min(query.k, int((~excluded).sum())))
        return replace(encoded, matches=matches), pool

    @cached_property
    def _texts(self) -> TextIndex | None:
        """The words of all images; None where a database holds the rows: then those of the candidates count."""
        return TextIndex.of(self.index) if isinstance(self.index, Index) else None

    def _candidates(self, query: Query, encoded: EncodedQuery) -> Candidates:
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
            encoded.text is None and query.is_unrestricted and encoded.mode == "query" and not encoded.targets
        )
        least = NEAR_THINGS if encoded.targets else NEIGHBOURS
        count = query.k if database_order_is_final else max(least, 2 * query.k + len(query.exclude))
        index = candidates(
            self.index,
            vectors,
            count,
            things=encoded.targets if encoded.uses_regions else None,
            ids=[*judged.liked, *judged.disliked],
            head_cache=encoded.mode == "query-db",
            filters=query.filters,
        )
        excluded = index.excluded_mask(query.filters)
        excluded[[index.row(id) for id in query.exclude if index is self.index or id in index]] = True
        if excluded.all():
            raise BadPrompt("Every image is excluded or filtered out.")
        background = self.index.background if encoded.uses_regions else None
        scorer = None
        if encoded.image is not None:
            behind = None if background is None else background.spaces["image"]
            is_whole = index is self.index
            scorer = self.scorer if is_whole else Scorer(self.encoder, index.space().followed_by(behind))
        return Candidates(index, scorer, excluded, min(query.k, int((~excluded).sum())), background)

    def _results(self, query: Query, pool: Candidates, encoded: EncodedQuery, ranking: Ranking) -> SearchResults:
        image, rows = encoded.image, ranking.top.rows[0].tolist()
        gate = None if image is None else image.features.gates[0]
        items = tuple(pool.index.item(row) for row in rows)
        results = SearchResults(
            items=items,
            scores=ranking.top.scores[0],
            features=None if image is None else image.features,
            mask=None if image is None else image.mask,
            is_fused=bool(query.feedback) or (image is not None) + len(encoded.signs) > 1 or encoded.says_words,
            heads=None if gate is None else gate.on,
            is_full_view=image is not None and image.is_full_view,
            regions=scoring.hit_regions(pool.index, rows, items, encoded.targets),
        )
        is_whole = pool.index is self.index or pool.background is not None
        if self.likelihood is not None and is_whole and not query.feedback and not query.is_one_sided:
            results = with_likelihoods(self.likelihood, results, encoded, ranking)
        vocabulary = None if encoded.text is None else self.image_text.vocabulary
        counts = self.regions is not None and query.context < 1
        notes = query_notes(encoded, vocabulary, regions_count=counts, likely=results.likely)
        return replace(results, notes=notes)

    @checked
    def patch_mask(self, image: QueryImage, prompt: Prompt | None, *, rule: str = "any", window: int = 3) -> PatchMask:
        """The patches and pixels a prompt means on an image; the whole image for None.

        Raises:
            BadPrompt: The prompt does not fit the image.
        """
        return query_encoder.patch_mask(self.encoder, image, prompt, rule, window)
