"""Query-DB PHS: the exact score of every image under the heads that the query selected, from the head cache.

Attention in the database does not depend on the query, so the CLS head outputs z and residual of each image suffice:
gate z, then output projection, FFN and norm on one token (18 d^2 operations an image and head set).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from foir.encoders.base import Encoder
from foir.encoders.intervention import HeadGate
from foir.errors import BadIndex
from foir.index.records import Space
from foir.ranking.exact import row_blocks
from foir.ranking.topk import TopK, merge_top_k

BLOCK = 4096  # images at a time


def search(encoder: Encoder, space: Space, gates: Sequence[HeadGate | None], queries: np.ndarray, k: int) -> TopK:
    """Top-k of each query against the database under its own gate; queries with equal gates share the work.

    Args:
        encoder: The space's encoder.
        space: A space with a head cache.
        gates: One per query; None is the pooled feature.
        queries: Unit vectors, float32 [n, dim].
        k: Number of results.

    Raises:
        BadIndex: The space has no head cache.
        BadPrompt: A gate needs the CLS values, which a head cache does not hold (the identity variant).
    """
    groups: dict[HeadGate | None, list[int]] = {}
    for i, gate in enumerate(gates):
        groups.setdefault(gate, []).append(i)
    k = min(k, sum(map(len, space.shards)))
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    for gate, members in groups.items():
        top = merge_top_k((block @ queries[members].T for block in features(encoder, space, gate)), len(members), k)
        scores[members], rows[members] = top.scores, top.rows
    return TopK(scores, rows)


def features(encoder: Encoder, space: Space, gate: HeadGate | None) -> Iterator[np.ndarray]:
    """Unit vectors of the database under a gate, float32 [<= 4096, dim] a block, in row order.

    Raises:
        BadIndex: The space has no head cache.
    """
    if not space.z:
        raise BadIndex("This index has no head cache: build it with --heads to search in query-db mode.")
    for z, residual in zip(row_blocks(space.z, BLOCK), row_blocks(space.residual, BLOCK), strict=True):
        parts = (torch.from_numpy(np.array(part, np.float32)) for part in (z, residual))
        outputs, tokens = (part.to(encoder.device) for part in parts)
        gated, channels = (outputs, None) if gate is None else gate.apply(outputs)
        yield encoder.tail(gated, tokens, channels).cpu().numpy()
