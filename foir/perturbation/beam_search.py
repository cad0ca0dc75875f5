"""Beam search over the words of a sentence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WIDTH, LENGTH_POWER = 3, 0.7


def beam_search(step: Callable[[Tensor], Tensor], start: int, end: int, max_words: int) -> list[int]:
    """Word ids of the most likely sentence, normalised by its length, without `start` and `end`.

    Args:
        step: Maps sentences [beams, n] to log-probabilities of the next word [beams, words]; minus infinity forbids.
        start: First word of every sentence.
        end: Last word of a complete sentence.
        max_words: Most words to add.
    """
    beams: list[tuple[float, list[int]]] = [(0.0, [start])]
    complete: list[tuple[float, list[int]]] = []
    for _ in range(max_words):
        best = step(torch.tensor([words for _, words in beams])).topk(WIDTH, -1)
        candidates = [
            (total + float(gain), [*words, int(word)])
            for (total, words), gains, next_words in zip(beams, best.values, best.indices, strict=True)
            for gain, word in zip(gains, next_words, strict=True)
        ]
        candidates.sort(key=lambda beam: -beam[0])
        complete += [beam for beam in candidates[:WIDTH] if beam[1][-1] == end]
        beams = [beam for beam in candidates[:WIDTH] if beam[1][-1] != end]
        if not beams or len(complete) >= WIDTH:
            break
    _, words = max(complete or beams, key=lambda beam: beam[0] / len(beam[1]) ** LENGTH_POWER)
    return [word for word in words[1:] if word != end]
