"""Relevance feedback: the whole index ranked again by what a person liked and disliked of what was shown.

A judgement is a picture's unit vector; the query's own picture counts as liked. One matrix product with the judged
vectors gives every rule what it needs. The rules are a reconstruction of what is known of arXiv 2404.16398 (a 1-NN
classifier over the feedback); `nn_ratio` is the 1-NN relevance of Giacinto (CIVR 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foir.errors import BadPrompt
from foir.ranking import exact

MEAN_LIKED, MEAN_DISLIKED = 0.75, 0.15  # Rocchio's weights, beside 1 for the query
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Judgements:
    """What a person said so far.

    Attributes:
        liked: Unit vectors, float32 [p, dim].
        disliked: Unit vectors, float32 [u, dim].
        query: The query's unit vector [dim]; None where words alone were searched for, which are no picture.
    """

    liked: np.ndarray
    disliked: np.ndarray
    query: np.ndarray | None

    @property
    def wanted(self) -> np.ndarray:
        """The liked vectors, the query's own among them."""
        return self.liked if self.query is None else np.concatenate([self.query[None], self.liked])


Rule = Callable[..., np.ndarray]  # shards and judgements to a relevance of each row
_rules: dict[str, Rule] = {}


def relevance(shards: Sequence[np.ndarray], judged: Judgements, rule: str = "nn_ratio") -> np.ndarray:
    """How relevant every picture of an index is, float32 [n], larger is better.

    Args:
        shards: Unit vectors, float16 or float32, whose rows count on from one shard to the next.
        judged: Likes and dislikes, and the query.
        rule: One of `rules()`.

    Raises:
        BadPrompt: There is no such rule.
    """
    if rule not in _rules:
        raise BadPrompt(f"Unknown feedback {rule!r}: use one of {', '.join(_rules)}.")
    return _rules[rule](shards, judged)


def feedback_rules() -> tuple[str, ...]:
    """The names of all rules."""
    return tuple(_rules)


def _rule(rule: Rule) -> Rule:
    _rules[rule.__name__] = rule
    return rule


@_rule
def nn_ratio(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Distance to the nearest disliked as a share of that and the distance to the nearest liked picture."""
    liked, disliked, _ = _nearest(shards, judged)
    if disliked is None:
        return 1 / (1 + _distance(liked))
    far = _distance(disliked)
    return far / (far + _distance(liked) + TINY)


@_rule
def sign_margin(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Cosine with the nearest liked picture, less that with the nearest disliked one."""
    liked, disliked, _ = _nearest(shards, judged)
    return liked if disliked is None else liked - disliked


@_rule
def hard_1nn(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Pictures whose nearest judged picture is liked come first; within both halves by the cosine with a liked one."""
    liked, disliked, _ = _nearest(shards, judged)
    return liked if disliked is None else liked + np.float32(3) * (liked >= disliked)


@_rule
def blend(shards: Sequence[np.ndarray], judged: Judgements, share: float = 0.5) -> np.ndarray:
    """`sign_margin` for a share, the cosine with the query for the rest."""
    liked, disliked, own = _nearest(shards, judged)
    learnt = liked if disliked is None else liked - disliked
    return learnt if own is None else (1 - share) * own + share * learnt


@_rule
def rocchio(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Cosine with the query moved towards the mean of the liked and away from the mean of the disliked pictures."""
    moved = np.zeros(judged.liked.shape[1], np.float32) if judged.query is None else judged.query.copy()
    if len(judged.liked):
        moved += MEAN_LIKED * judged.liked.mean(0)
    if len(judged.disliked):
        moved -= MEAN_DISLIKED * judged.disliked.mean(0)
    return exact.scores(shards, moved / max(float(np.linalg.norm(moved)), TINY))


@_rule
def svm(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Along the normal of a linear support vector machine's plane; `sign_margin` while one side is empty."""
    from sklearn.svm import LinearSVC

    return _plane(LinearSVC(class_weight="balanced", random_state=0), shards, judged)


@_rule
def logistic(shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    """Logit of a logistic regression, less its intercept; `sign_margin` while one side is empty."""
    from sklearn.linear_model import LogisticRegression

    return _plane(LogisticRegression(class_weight="balanced"), shards, judged)


def _plane(classifier: Any, shards: Sequence[np.ndarray], judged: Judgements) -> np.ndarray:
    if not len(judged.wanted) or not len(judged.disliked):
        return sign_margin(shards, judged)
    vectors = np.concatenate([judged.wanted, judged.disliked])
    labels = np.arange(len(vectors)) < len(judged.wanted)
    classifier.fit(vectors, labels)
    return exact.scores(shards, classifier.coef_[0].astype(np.float32))


def _nearest(
    shards: Sequence[np.ndarray], judged: Judgements
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Largest cosine of every row with a liked and with a disliked picture, and the one with the query, [n] each.

    0 where nothing is liked, None where nothing is disliked or there is no query.
    """
    wanted = judged.wanted
    vectors = np.concatenate([wanted, judged.disliked]).T.copy()
    near, far, own = [], [], []
    for block in exact.row_blocks(shards):
        cosines = exact.as_float32(block) @ vectors
        near.append(cosines[:, : len(wanted)].max(1, initial=-1.0) if len(wanted) else np.zeros(len(block), np.float32))
        far.append(cosines[:, len(wanted) :].max(1, initial=-1.0))
        own.append(cosines[:, 0])
    return (
        np.concatenate(near),
        np.concatenate(far) if len(judged.disliked) else None,
        None if judged.query is None else np.concatenate(own),
    )


def _distance(cosine: np.ndarray) -> np.ndarray:
    """Euclidean distance of unit vectors."""
    return np.sqrt(np.maximum(2 - 2 * cosine, 0))
