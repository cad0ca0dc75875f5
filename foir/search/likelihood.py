"""How likely a result holds what was searched for: a small network on the score of its best region.

It sees how the score stands among those of the collection, which tells how many images hold such a thing. It is fitted
on dev data (`python -m eval.fit_likelihood`) for the regions of one encoder, for what was pointed at and for what was
named. Other encoders have none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from foir.encoders.base import Encoder
from foir.regions.recipe import RegionRecipe
from foir.search.results import SearchResults

if TYPE_CHECKING:
    from foir.search.scoring import EncodedQuery, Ranking

FILE = Path(__file__).parents[1] / "assets" / "mini" / "likelihood.json"
SHARES = (0.01, 0.04, 0.08, 0.16)  # of a collection: its first images
Kind: TypeAlias = Literal["pointed", "named"]
Numbers: TypeAlias = tuple[FiniteFloat, ...]


@dataclass(frozen=True)
class Spread:
    """What the best-region scores of a collection's images are like for one thing.

    Attributes:
        mean: Their mean.
        deviation: Their standard deviation.
        skew: Their skewness: large where few images stand out.
        ranked: The scores of the last images of its best `SHARES`.
    """

    mean: float
    deviation: float
    skew: float
    ranked: tuple[float, ...]

    @classmethod
    def of(cls, scores: np.ndarray, reference: np.ndarray | None = None) -> Spread:
        """That of scores [n], or of `reference` where they are known of some images only."""
        typical = np.asarray(scores if reference is None else reference, float)
        typical = typical[np.isfinite(typical)]
        mean, deviation = float(typical.mean()), max(float(typical.std()), 1e-6)
        skew = float((((typical - mean) / deviation) ** 3).mean())
        places = [max(round(share * len(typical)), 1) - 1 for share in SHARES]
        ranked = -np.partition(-typical, places)[places]
        return cls(mean, deviation, skew, tuple(ranked.tolist()))

    def evidence(self, scores: np.ndarray) -> np.ndarray:
        """What the likelihood of images with these scores [n] depends on, float64 [n, 9]."""
        numbers = [self.mean, self.deviation, self.skew]
        numbers += [(score - self.mean) / self.deviation for score in self.ranked]
        scores = np.asarray(scores, float)
        own = np.stack([scores, (scores - self.mean) / self.deviation], 1)
        return np.concatenate([own, np.broadcast_to(numbers, (len(scores), len(numbers)))], 1)


class Layer(BaseModel):
    """A linear layer: weights [inputs][outputs] and bias [outputs]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: tuple[Numbers, ...]
    bias: Numbers


class Network(BaseModel):
    """A small network on standardised evidence, with rectified units, whose last one is a logit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: Numbers
    deviation: Numbers
    layers: tuple[Layer, ...]

    def __call__(self, evidence: np.ndarray) -> np.ndarray:
        """Likelihoods, float64 [n], of evidence [n, m]."""
        values = (evidence - np.array(self.mean)) / np.array(self.deviation)
        for number, layer in enumerate(self.layers):
            values = (np.maximum(values, 0) if number else values) @ np.array(layer.weight) + np.array(layer.bias)
        return np.asarray(1 / (1 + np.exp(-np.clip(values[:, 0], -40, 40))))


class LikelihoodModel(BaseModel):
    """A fitted model.

    Attributes:
        encoder: Registry name of the encoder.
        revision: Of its weights.
        way: Of its regions (`foir.regions.ways`).
        pointed: Likelihood of evidence where the thing was pointed at.
        named: Where it was named.
        likely: Likelihood from which a result counts as likely.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    revision: str
    way: str
    pointed: Network
    named: Network
    likely: Annotated[float, Field(gt=0, lt=1)]

    def likelihoods(self, kind: Kind, scores: np.ndarray, spread: Spread) -> np.ndarray:
        """How likely images hold a thing, float64 [n], 0 to 1.

        Args:
            kind: How the thing is known.
            scores: Cosines of the images' best regions with it, [n].
            spread: Of the whole collection.
        """
        return (self.pointed if kind == "pointed" else self.named)(spread.evidence(scores))


def model_of(encoder: Encoder, recipe: RegionRecipe) -> LikelihoodModel | None:
    """The model for an index's regions; None where none was fitted."""
    model = _load(FILE)
    if model is None or (model.encoder, model.revision, model.way) != (encoder.name, encoder.revision, recipe.way):
        return None
    return model if recipe == RegionRecipe(mean=recipe.mean) else None


@cache
def _load(file: Path) -> LikelihoodModel | None:
    return LikelihoodModel.model_validate_json(file.read_text("utf-8")) if file.exists() else None


def with_likelihoods(
    model: LikelihoodModel, results: SearchResults, encoded: EncodedQuery, ranking: Ranking
) -> SearchResults:
    """The results with the likelihood of each, the likely ones first; as they are where no regions were compared.

    Several things are taken as independent. An image whose own text says all the words that are searched for is likely.
    """
    if not results.regions or not ranking.targets:
        return results
    kinds: list[Kind] = ["pointed"] * len(encoded.things)
    kinds += ["named"] * (len(encoded.targets) - len(encoded.things))
    each = [
        model.likelihoods(kind, np.array([own[target].score for own in results.regions]), spread)
        for target, (kind, spread) in enumerate(zip(kinds, ranking.spreads, strict=True))
    ]
    likelihoods = np.prod(each, axis=0)
    is_likely = likelihoods >= model.likely
    if encoded.image is None and encoded.matches is not None:
        is_likely |= encoded.matches.share[ranking.top.rows[0]] >= 1
    return replace(results, likelihoods=likelihoods).likely_first(is_likely)
