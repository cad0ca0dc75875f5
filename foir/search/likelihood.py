"""How likely a result holds what was searched for: a logistic model of the score of its best region.

The model is fitted on dev data (`python -m eval.fit_likelihood`) for the regions of one encoder: what was pointed at,
and what was named. Other encoders have none.
"""

from __future__ import annotations

from dataclasses import replace
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
Kind: TypeAlias = Literal["pointed", "named"]
Moments = tuple[float, float]  # mean and deviation of the best-region scores of a collection
Weights: TypeAlias = Annotated[tuple[FiniteFloat, ...], Field(min_length=4, max_length=4)]


class LikelihoodModel(BaseModel):
    """A fitted model.

    Attributes:
        encoder: Registry name of the encoder.
        revision: Of its weights.
        way: Of its regions (`foir.regions.ways`).
        pointed: Weights of `evidence` where the thing was pointed at.
        named: Where it was named.
        likely: Likelihood from which a result counts as likely.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    revision: str
    way: str
    pointed: Weights
    named: Weights
    likely: Annotated[float, Field(gt=0, lt=1)]

    def likelihoods(self, kind: Kind, scores: np.ndarray, best: float, moments: Moments) -> np.ndarray:
        """How likely images hold a thing, float64 [n], 0 to 1.

        Args:
            kind: How the thing is known.
            scores: Cosines of the images' best regions with it, [n].
            best: The largest cosine of the collection.
            moments: Of all images of the collection.
        """
        logits = evidence(scores, best, moments) @ np.array(self.pointed if kind == "pointed" else self.named)
        return np.asarray(1 / (1 + np.exp(-logits)))


def evidence(scores: np.ndarray, best: float, moments: Moments) -> np.ndarray:
    """What a likelihood depends on, float64 [n, 4]: 1, the cosine, its standard score, that of the best image."""
    mean, deviation = moments
    standard = (np.asarray(scores, float) - mean) / max(deviation, 1e-6)
    best_standard = np.full(len(scores), (best - mean) / max(deviation, 1e-6))
    return np.stack([np.ones(len(scores)), np.asarray(scores, float), standard, best_standard], 1)


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
    if not results.regions or not ranking.moments:
        return results
    kinds: list[Kind] = ["pointed"] * len(encoded.things)
    kinds += ["named"] * (len(encoded.targets) - len(encoded.things))
    each = [
        model.likelihoods(kind, np.array([own[target].score for own in results.regions]), best, moments)
        for target, (kind, best, moments) in enumerate(zip(kinds, ranking.best, ranking.moments, strict=True))
    ]
    likelihoods = np.prod(each, axis=0)
    is_likely = likelihoods >= model.likely
    if encoded.image is None and encoded.matches is not None:
        is_likely |= encoded.matches.share[ranking.top.rows[0]] >= 1
    return replace(results, likelihoods=likelihoods).likely_first(is_likely)
