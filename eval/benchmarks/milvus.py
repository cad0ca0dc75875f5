"""An index in milvus-lite beside the same one in files: speed of writing and searching, and recall."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from foir.app.collections import SAMPLE
from foir.app.jobs import MODULE as INDEX_BUILD
from foir.index import Index, local_record
from foir.index.manifest import Store
from foir.index.milvus import MilvusIndex
from foir.index.milvus_client import connect
from foir.ranking import exact

from .index import JITTER, held_out, write

milvus_store: Any = import_module(f"{INDEX_BUILD}.milvus_store")

ROWS, QUERIES, K = 100_000, 24, 100


def main() -> str:
    """Measure; returns a Markdown table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, uri = Path(temporary), str(Path(temporary) / "rows.db")
        write(folder, Index.open(SAMPLE), ROWS)
        index = Index.open(folder)
        started = time.perf_counter()
        manifest = milvus_store.send_rows(index, Store(uri=uri, collection="rows"))
        seconds_sent = time.perf_counter() - started
        local_record.commit(folder, manifest, None)
        milvus = MilvusIndex.open(folder)
        queries = held_out(QUERIES)
        shards = index.space().shards
        true = exact.search(shards, queries, K).rows
        lines = [
            "| | rows a second in | milliseconds a query | recall@100 of the exact ones |",
            "|---|---|---|---|",
            _line("milvus-lite, as an index asks it", f"{ROWS / seconds_sent:.0f}", *_asked(milvus, queries, true)),
            _line(
                "files, the scan by USearch",
                "",
                *_timed(lambda q: exact.search(shards, q[None], K).rows[0], queries, true),
            ),
        ]
        connect(uri).close()
    return "\n".join(
        [
            *lines,
            "",
            f"{ROWS:,} rows of {queries.shape[1]}: the sample repeated, with noise of {JITTER} deviations a channel,",
            f"so copies count; {QUERIES} held-out scenes ask, one after the other. In: with the graph built.",
        ]
    )


def _asked(milvus: MilvusIndex, queries: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    def ask(query: np.ndarray) -> np.ndarray:
        near = milvus.candidates({"image": [query]}, K)
        top = exact.search(near.space().shards, query[None], K).rows[0]
        return np.array([near.item(int(row)).id for row in top])

    return _timed(ask, queries, true)


def _timed(ask: Callable[[np.ndarray], np.ndarray], queries: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    ask(queries[0])  # what is loaded at first is loaded now
    started = time.perf_counter()
    results = [ask(query) for query in queries]
    seconds = (time.perf_counter() - started) / len(queries)
    return 1000 * seconds, float(np.mean([np.isin(a, b).mean() for a, b in zip(true, results, strict=True)]))


def _line(name: str, rate: str, milliseconds: float, recall: float) -> str:
    return f"| {name} | {rate} | {milliseconds:.1f} | {recall:.4f} |"
