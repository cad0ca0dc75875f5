"""Beam search over the next words of a sentence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WIDTH, LENGTH_POWER = 3, 0.7


def beam_search(step: Callable[[Tensor], Tensor], start: int, end: int, longest: int) -> list[int]:
    """The likeliest sentence for its length, without start and end.

    Args:
        step: Sentences so far [beams, n] to log-probabilities of the next word [beams, words]; minus infinity forbids.
        start: The word that begins every sentence.
        end: The word that ends it.
        longest: Most words to add.
    """
    beams: list[tuple[float, list[int]]] = [(0.0, [start])]
    done: list[tuple[float, list[int]]] = []
    for _ in range(longest):
        best = step(torch.tensor([words for _, words in beams])).topk(WIDTH, -1)
        grown = [
            (total + float(gain), [*words, int(word)])
            for (total, words), gains, nexts in zip(beams, best.values, best.indices, strict=True)
            for gain, word in zip(gains, nexts, strict=True)
        ]
        grown.sort(key=lambda beam: -beam[0])
        done += [beam for beam in grown[:WIDTH] if beam[1][-1] == end]
        beams = [beam for beam in grown[:WIDTH] if beam[1][-1] != end]
        if not beams or len(done) >= WIDTH:
            break
    _, chosen = max(done or beams, key=lambda beam: beam[0] / len(beam[1]) ** LENGTH_POWER)
    return [word for word in chosen[1:] if word != end]
