"""The top k of a gallery for many queries, on the encoder's device, block by block to save memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from foir.encoders.base import Encoder
from foir.encoders.intervention import HeadGate
from foir.errors import BadPrompt
from foir.index import Space
from foir.ranking import exact, head_cache
from foir.ranking.shortlist import Shortlist

QUERIES = 4096  # ranked at a time
BLOCK = 32_768  # gallery rows compared at a time


def rank(
    encoder: Encoder,
    gallery: Space,
    mode: str,
    gates: Sequence[HeadGate | None],
    vectors: np.ndarray,
    k: int,
    shortlist: Shortlist | None = None,
) -> np.ndarray:
    """Rows of the k best images for each query, int [n, k], best first.

    Args:
        encoder: The gallery's encoder.
        gallery: Its features, and for "query-db" its head cache.
        mode: "query" compares plain features; "query-db" applies each query's gate to the gallery.
        gates: One per query.
        vectors: Unit vectors, float32 [n, dim].
        k: Number of results.
        shortlist: Makes "query-db" a search in two stages, for a large gallery on a CPU.
    """
    if mode == "query-db" and shortlist is not None:
        pairs = zip(gates, vectors, strict=True)
        return np.concatenate([shortlist.search(_required(gate), vector, k).rows for gate, vector in pairs])
    groups: dict[HeadGate | None, list[int]] = {}
    for i, gate in enumerate(gates):
        groups.setdefault(gate if mode == "query-db" else None, []).append(i)
    rows = np.empty((len(vectors), min(k, sum(map(len, gallery.shards)))), np.int64)
    for gate, members in groups.items():
        for start in range(0, len(members), QUERIES):
            batch = members[start : start + QUERIES]
            if mode == "query-db":
                blocks: Iterable[np.ndarray] = head_cache.features(encoder, gallery, gate)
            else:
                blocks = exact.row_blocks(gallery.shards, BLOCK)
            rows[batch] = nearest(blocks, vectors[batch], k, encoder.device)
    return rows


def nearest(blocks: Iterable[np.ndarray], queries: np.ndarray, k: int, device: str) -> np.ndarray:
    """Rows with the largest dot products, int [n, <= k], over consecutive blocks [rows, dim] of the gallery.

    Equal products are in row order, whichever of them a device's own top-k would choose.
    """
    vectors = torch.from_numpy(queries).to(device)
    scores, rows = vectors.new_empty(len(vectors), 0), torch.empty(len(vectors), 0, dtype=torch.long, device=device)
    start = 0
    for block in blocks:
        similarity = vectors @ torch.from_numpy(np.asarray(block, np.float32)).to(device).T
        values, columns = _top(similarity, min(k, similarity.shape[1]))
        scores, rows = _merge(torch.cat([scores, values], 1), torch.cat([rows, columns + start], 1), k)
        start += len(block)
    return rows.cpu().numpy()


def _top(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row and their columns; of values equal to the least of them, the first columns."""
    values, columns = similarity.topk(k, -1)
    least = values[:, -1:]
    for row in (similarity >= least).sum(-1).gt(k).nonzero().flatten().tolist():
        above = (similarity[row] > least[row]).nonzero().flatten()
        equal = (similarity[row] == least[row]).nonzero().flatten()
        columns[row] = torch.cat([above, equal[: k - len(above)]])
        values[row] = similarity[row, columns[row]]
    return values, columns


def _merge(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The top k of the candidates; equal scores in row order."""
    by_row = rows.argsort(dim=-1, stable=True)
    scores, rows = scores.gather(1, by_row), rows.gather(1, by_row)
    order = scores.argsort(dim=-1, descending=True, stable=True)[:, :k]
    return scores.gather(1, order), rows.gather(1, order)


def _required(gate: HeadGate | None) -> HeadGate:
    if gate is None:
        raise BadPrompt("This method selects no heads, so it has no gate for the gallery.")
    return gate
