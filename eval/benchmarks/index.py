"""Time and memory to open and search a memory-mapped index of one or of ten million rows."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa

from foir import encoders
from foir.app.collections import SAMPLE
from foir.index import Index, local_record, writer
from foir.index.digest_cache import SETTLED
from foir.index.format import ITEM_SCHEMA
from foir.playroom import compose
from foir.ranking import exact

ROWS, LARGE = 1_000_000, 10_000_000
SHARD = 1024  # rows, as in a build
QUERIES, K = 8, 100
JITTER = 0.1  # of each channel's deviation


def large() -> str:
    """Measure ten million rows; takes 9 GB of disk."""
    return main(LARGE)


def main(rows: int = ROWS) -> str:
    """Measure; returns a Markdown table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, Index.open(SAMPLE), rows)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**30
        queries = held_out(QUERIES)
        receiver, sender = multiprocessing.Pipe()
        # In a separate process, so that the memory for writing does not count.
        reader = multiprocessing.get_context("spawn").Process(target=_read, args=(folder, queries, sender))
        time.sleep(SETTLED + 0.5)  # the digest of a younger file is not cached
        reader.start()
        report = receiver.recv()
        reader.join()
    return "\n".join(
        [
            f"{rows:,} rows of {queries.shape[1]} float16 in shards of {SHARD}, {size:.1f} GB with the tables.",
            f"The sample gallery repeated, with noise of {JITTER} deviations a channel; {QUERIES} held-out scenes ask.",
            "",
            "| step | seconds |",
            "|---|---|",
            *(f"| {step} | {seconds:.2f} |" for step, seconds in report["seconds"].items()),
            "",
            f"Recall@{K} of one query's scan against products in float32: {report['recall']:.4f}.",
            f"Memory at its peak {report['peak']:.2f} GB, of which {report['table']:.2f} GB after opening.",
        ]
    )


def write(folder: Path, sample: Index, rows: int, seed: int = 0) -> None:
    """Write an index of the sample's vectors repeated to `rows` rows, each with its own noise; without thumbnails."""
    rng = np.random.default_rng(seed)
    space = sample.space("image")
    vectors = np.concatenate([np.asarray(shard, np.float32) for shard in space.shards])
    noise = JITTER * vectors.std(0)
    shards = []
    for start in range(0, rows, SHARD):
        batch = vectors[np.arange(start, min(start + SHARD, rows)) % len(vectors)]
        batch = batch + noise * rng.standard_normal(batch.shape, np.float32)
        shards.append(writer.write_vectors(folder, batch / np.linalg.norm(batch, axis=1, keepdims=True)))
    facts = sample.manifest.spaces["image"].model_copy(update={"shards": tuple(shards), "heads": ()})
    local_record.commit(folder, writer.build_manifest(folder, {"image": facts}, _table(rows, rng), []), None)


def held_out(count: int) -> np.ndarray:
    """Features of scenes that are in no index, float32 [count, dim]."""
    encoder = encoders.load("mini", device="cpu")
    images = [compose("held-out", number).image for number in range(count)]
    features = [encoder.finish(encoder.prefix(encoder.pixels([image]))) for image in images]
    return np.concatenate([batch.vectors.cpu().numpy() for batch in features])


def _table(rows: int, rng: np.random.Generator) -> pa.Table:
    """An item table of made-up images with distinct digests."""
    ids = np.arange(rows)
    digests = pa.py_buffer(rng.bytes(32 * rows).hex().encode())
    offsets = pa.py_buffer((64 * np.arange(rows + 1, dtype=np.int64)).tobytes())
    thumbs = pa.LargeStringArray.from_buffers(rows, offsets, digests)
    columns = {
        "id": pa.array(ids),
        "file": pa.array(f"folder-{row // 1000:05}/picture-{row:08}.jpg" for row in range(rows)),
        "width": pa.array(np.full(rows, 640, np.int32)),
        "height": pa.array(np.full(rows, 480, np.int32)),
        "thumb": pa.chunked_array([thumbs[start : start + 10**6].cast(pa.string()) for start in range(0, rows, 10**6)]),
    }
    absent = {name: pa.nulls(rows, ITEM_SCHEMA.field(name).type) for name in ITEM_SCHEMA.names if name not in columns}
    return pa.table({name: (columns | absent)[name] for name in ITEM_SCHEMA.names}, schema=ITEM_SCHEMA)


def _read(folder: Path, queries: np.ndarray, connection: Connection) -> None:
    seconds = {}
    for step in ("opened for the first time, every byte verified", "opened again"):
        started = time.perf_counter()
        index = Index.open(folder)
        seconds[step] = time.perf_counter() - started
        if not step.endswith("again"):
            del index
    table = memory("RssAnon")
    shards = index.space("image").shards
    started = time.perf_counter()
    single = [exact.search(shards, query[None], K) for query in queries]
    seconds["one query, scanned"] = (time.perf_counter() - started) / len(queries)
    started = time.perf_counter()
    whole = exact.search(shards, queries, K)  # several are a product in float32
    seconds[f"{len(queries)} queries at once, a product"] = time.perf_counter() - started
    started = time.perf_counter()
    for row in single[0].rows[0]:
        index.row(index.item(int(row)).id)
    seconds[f"{K} results looked up"] = time.perf_counter() - started
    recall = float(np.mean([np.isin(whole.rows[i], single[i].rows[0]).mean() for i in range(len(queries))]))
    connection.send({"seconds": seconds, "recall": recall, "peak": memory("VmHWM"), "table": table})


def memory(name: str) -> float:
    """Memory of this process in GB, a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20
