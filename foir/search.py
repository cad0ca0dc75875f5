"""Searcher: a model and an index, immutable and shared; Picture: one person's photo with its prefix kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foir import encoders, images, methods
from foir.encoders.base import Encoder, Features, Prefix
from foir.errors import BadIndex, BadPrompt
from foir.images import Photo
from foir.index import Index, Item, Space, exact, head_cache
from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt

MODES = ("query", "query-db")
MAX_RESULTS = 1000
SAME_ENCODER = 0.999  # cosine of the stored and the present probe: library updates that change features fall below


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo and the prompt-free part of its forward pass: every further prompt on it is cheap."""

    photo: Photo
    prefix: Prefix


@dataclass(frozen=True, eq=False)
class Hits:
    """What a search found, best first.

    Attributes:
        items: The pictures.
        scores: Cosine of each, float32 [k].
        features: The query's features (one row).
        mask: The region that was searched for.
        heads: The heads that were kept, None if the method selects none.
        seen_whole: The encoder saw the whole picture, so its attention can be laid over it; not so after Crop.
        notes: What a user should know about how the query was read.
    """

    items: tuple[Item, ...]
    scores: np.ndarray
    features: Features
    mask: PatchMask
    heads: tuple[int, ...] | None
    seen_whole: bool
    notes: tuple[str, ...]


class Searcher:
    """Searches one index with the encoder that made it. Holds no state of any user; safe to share between threads."""

    def __init__(self, index: Index, encoder: Encoder) -> None:
        """Bind an index to its encoder.

        Raises:
            BadIndex: The index was made by another encoder, or by one that gave other features.
        """
        self.index, self.encoder = index, encoder
        self.space: Space = index.space("image")
        if (encoder.name, encoder.revision) != (self.space.encoder, self.space.revision):
            raise BadIndex(
                f"The index was made by {self.space.encoder} ({self.space.revision}), "
                f"not by {encoder.name} ({encoder.revision})."
            )
        now = encoder.probe()
        if now.shape != self.space.probe.shape or not float(now @ self.space.probe) >= SAME_ENCODER:
            raise BadIndex(f"{encoder.name} now gives other features than when the index was made: rebuild the index.")

    @classmethod
    def load(cls, index: Index | Path | str, *, device: str = "auto", dtype: str = "float32") -> Searcher:
        """Load the encoder that an index names; the index may be open already or a folder.

        Raises:
            BadIndex: The index is damaged or was made by other weights.
            Unavailable: The encoder's weights are not at hand.
        """
        index = index if isinstance(index, Index) else Index.open(index)
        space = index.space("image")
        name = space.encoder
        # Weights that ship with a package, or have a tag for a name, have no revision to ask the Hub for.
        pinned = None if name == "mini" or ":" in name else space.revision
        return cls(index, encoders.load(name, revision=pinned, device=device, dtype=dtype))

    def open(self, source: Path | str | bytes | Photo) -> Picture:
        """Read a picture and run the encoder up to where prompts matter.

        Raises:
            BadImage: It cannot be read.
        """
        photo = source if isinstance(source, Photo) else images.read(source)
        return Picture(photo, self.encoder.prefix(self.encoder.pixels([photo.image])))

    def search(
        self,
        picture: Picture,
        prompt: Prompt | None = None,
        *,
        method: str | None = None,
        options: Mapping[str, Any] | None = None,
        mode: str = "query",
        k: int = 20,
        rule: str = "any",
        window: int = 3,
    ) -> Hits:
        """Find pictures that hold what is pointed at.

        Args:
            picture: From `open`.
            prompt: What is pointed at; None searches with the whole picture.
            method: A registered method or chain; "phs" by default where there is a prompt, "cbir" where there is none.
            options: The method's options (`foir.methods.methods()[name].options`).
            mode: "query" changes the query's feature only; "query-db" shows every picture of the index through the
                heads the query selected.
            k: How many results, 1 to 1000.
            rule: How an area becomes patches: "any", "majority", "center".
            window: Side of a point's window in patches, odd.

        Raises:
            BadPrompt: The prompt, method, an option, the mode or k makes no sense.
            BadIndex: query-db mode on an index without a head cache.
        """
        if mode not in MODES:
            raise BadPrompt(f"Unknown mode {mode!r}: use one of {', '.join(MODES)}.")
        if not 1 <= k <= MAX_RESULTS:
            raise BadPrompt(f"Ask for 1 to {MAX_RESULTS} results, not {k}.")
        method = method or ("cbir" if prompt is None else "phs")
        mask = self.region(picture, prompt, rule=rule, window=window)
        fitted = Prompt.box(0, 0, *picture.photo.size) if prompt is None else self._fit(picture, prompt)
        if prompt is None and any(step.pointed for step in methods.chain(method)):
            raise BadPrompt(f"The method {method} needs a point, a box, a stroke or a mask.")
        intervention = methods.intervene(method, fitted, mask, options)
        features = self.encoder.features(picture.photo.image, [intervention], picture.prefix)
        vectors = features.vectors.cpu().numpy()
        k = min(k, len(self.index))
        if mode == "query-db":
            top = head_cache.search(self.encoder, self.space, features.gates, vectors, k)
        else:
            top = exact.search(self.space.shards, vectors, k)
        gate = features.gates[0]
        return Hits(
            items=tuple(self.index.item(int(row)) for row in top.rows[0]),
            scores=top.scores[0],
            features=features,
            mask=mask,
            heads=None if gate is None else gate.on,
            seen_whole=not intervention.reframes,
            notes=picture.photo.notes + intervention.notes,
        )

    def region(
        self, picture: Picture, prompt: Prompt | None, *, rule: str = "any", window: int = 3
    ) -> PatchMask:
        """The patches and pixels a prompt means on a picture; the whole picture for None.

        Raises:
            BadPrompt: The prompt does not fit the picture.
        """
        if prompt is None:
            return PatchMask.everything(picture.photo.size, self.encoder.grid)
        fitted = self._fit(picture, prompt)
        return rasterise(fitted, picture.photo.size, self.encoder.grid, rule=rule, window=window)

    @staticmethod
    def _fit(picture: Picture, prompt: Prompt) -> Prompt:
        return prompt.fit(picture.photo.size, orientation=picture.photo.orientation)
