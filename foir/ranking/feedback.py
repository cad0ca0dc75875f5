"""Relevance feedback: the whole index ranked again by liked and disliked results.

A judgement is an image's unit vector; the query image counts as liked. Every rule needs one matrix product with the
judged vectors. The rules reconstruct what is known of arXiv 2404.16398 (a 1-NN classifier over the feedback);
`nn_ratio` is the 1-NN relevance of Giacinto (CIVR 2007). They compare whole images. `move` is for regions: it turns
what is searched for towards the regions that were meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foir.errors import BadPrompt
from foir.ranking import exact

RULE = "rocchio"  # by default, for regions and for whole images
ROCCHIO_LIKED, ROCCHIO_DISLIKED = 0.75, 0.15  # weights of the means, beside 1 for the query
# For regions, chosen on dev data (docs/results.md): weights of very many judgements, and how many are half of that.
REGIONS_LIKED, REGIONS_DISLIKED, FEW = 0.45, 0.25, 3
TINY = 1e-12
OFFSET = 3  # exceeds the range of a cosine


@dataclass(frozen=True, eq=False)
class Judgements:
    """Vectors of judged images.

    Attributes:
        liked: Unit vectors, float32 [n_liked, dim].
        disliked: Unit vectors, float32 [n_disliked, dim].
        query: The query image's unit vector [dim]; None for a search by words alone.
    """

    liked: np.ndarray
    disliked: np.ndarray
    query: np.ndarray | None

    @property
    def relevant(self) -> np.ndarray:
        """The liked vectors with the query's own."""
        return self.liked if self.query is None else np.concatenate([self.query[None], self.liked])


Rule = Callable[..., np.ndarray]  # (shards, judgements) -> relevance of each row [n]
_rules: dict[str, Rule] = {}


def relevance(shards: Sequence[np.ndarray], judged: Judgements, rule: str = RULE) -> np.ndarray:
    """Relevance of every image of an index, float32 [n], larger is better.

    Args:
        shards: Unit vectors, float16 or float32; row numbers continue from shard to shard.
        judged: Liked and disliked vectors, and the query.
        rule: One of `feedback_rules()`.

    Raises:
        BadPrompt: There is no such rule.
    """
    if rule not in _rules:
        raise BadPrompt(f"Unknown feedback {rule!r}: use one of {', '.join(_rules)}.")
    return _rules[rule](shards, judged)


def move(vectors: np.ndarray, liked: np.ndarray, disliked: np.ndarray) -> np.ndarray:
    """Vectors of one thing, moved towards the mean of liked regions and away from that of disliked ones.

    The more were judged, the further; but the query keeps more than half of the weight, so that no judgement undoes it.
    Of disliked regions only what the query does not share counts: they were found because they are similar to it.

    Args:
        vectors: Unit vectors of the thing, float32 [n, dim].
        liked: Unit vectors of the regions that were meant on liked images, float32 [n_liked, dim].
        disliked: The same of disliked images.

    Returns:
        Unit vectors, float32 [n, dim].
    """
    moved = vectors.copy()
    if len(liked):
        moved += REGIONS_LIKED * len(liked) / (len(liked) + FEW) * (liked.mean(0) - vectors)
    if len(disliked):
        mean = disliked.mean(0)
        moved -= REGIONS_DISLIKED * len(disliked) / (len(disliked) + FEW) * (mean - (vectors @ mean)[:, None] * vectors)
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), TINY), np.float32)


def feedback_rules() -> tuple[str, ...]:
    """The names of all rules."""
    return tuple(_rules)


def _rule(rule: Rule) -> Rule:
    _rules[rule.__name__] = rule
    return rule


@_rule
def nn_ratio(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """d- / (d- + d+), from the distances to the nearest disliked (d-) and the nearest liked image (d+)."""
    liked, disliked, _ = _nearest(shards, judged)
    if disliked is None:
        return 1 / (1 + _distance(liked))
    distance = _distance(disliked)
    return distance / (distance + _distance(liked) + TINY)


@_rule
def sign_margin(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Cosine with the nearest liked image minus the cosine with the nearest disliked one."""
    liked, disliked, _ = _nearest(shards, judged)
    return liked if disliked is None else liked - disliked


@_rule
def hard_1nn(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Images whose nearest judged image is liked come first; within both groups, by the cosine with it."""
    liked, disliked, _ = _nearest(shards, judged)
    return liked if disliked is None else liked + np.float32(OFFSET) * (liked >= disliked)


@_rule
def blend(shards: Sequence[np.ndarray], judged: Judgements, share: float = 0.5) -> np.ndarray:
    """A weighted mean of `sign_margin` (weight `share`) and the cosine with the query."""
    liked, disliked, query = _nearest(shards, judged)
    margin = liked if disliked is None else liked - disliked
    return margin if query is None else (1 - share) * query + share * margin


@_rule
def rocchio(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Cosine with the query moved towards the mean of the liked and away from the mean of the disliked images."""
    moved = np.zeros(judged.liked.shape[1], np.float32) if judged.query is None else judged.query.copy()
    if len(judged.liked):
        moved += ROCCHIO_LIKED * judged.liked.mean(0)
    if len(judged.disliked):
        moved -= ROCCHIO_DISLIKED * judged.disliked.mean(0)
    return exact.scores(shards, moved / max(float(np.linalg.norm(moved)), TINY))


@_rule
def svm(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Projection on the normal of a linear support vector machine; `sign_margin` without likes or without dislikes."""
    from sklearn.svm import LinearSVC

    return _normal_projection(LinearSVC(class_weight="balanced", random_state=0), shards, judged)


@_rule
def logistic(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Logit of a logistic regression, less its intercept; `sign_margin` without likes or without dislikes."""
    from sklearn.linear_model import LogisticRegression

    return _normal_projection(LogisticRegression(class_weight="balanced"), shards, judged)


def _normal_projection(classifier: Any, shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    if not len(judged.relevant) or not len(judged.disliked):
        return sign_margin(shards, judged)
    vectors = np.concatenate([judged.relevant, judged.disliked])
    labels = np.arange(len(vectors)) < len(judged.relevant)
    classifier.fit(vectors, labels)
    return exact.scores(shards, classifier.coef_[0].astype(np.float32))


def _nearest(
    shards: Sequence[np.ndarray], judged: Judgements
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Cosine of every row with its nearest liked and nearest disliked image, and with the query, [n] each.

    0 where nothing is liked; None where nothing is disliked, or without a query.
    """
    relevant = judged.relevant
    vectors = np.concatenate([relevant, judged.disliked]).T.copy()
    liked, disliked, query = [], [], []
    for block in exact.row_blocks(shards):
        cosines = exact.as_float32(block) @ vectors
        liked.append(
            cosines[:, : len(relevant)].max(1, initial=-1.0) if len(relevant) else np.zeros(len(block), np.float32)
        )
        disliked.append(cosines[:, len(relevant) :].max(1, initial=-1.0))
        query.append(cosines[:, 0])
    return (
        np.concatenate(liked),
        np.concatenate(disliked) if len(judged.disliked) else None,
        None if judged.query is None else np.concatenate(query),
    )


def _distance(cosine: np.ndarray) -> np.ndarray:
    """Euclidean distance of unit vectors."""
    return np.sqrt(np.maximum(2 - 2 * cosine, 0))
