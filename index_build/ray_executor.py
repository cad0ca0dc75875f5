"""Building on a Ray cluster: pictures are decoded on its CPUs, encoded by actors, and written to shards here.

Ray Data moves them from one to the next, holds decoding back while encoding is behind, and does again what a worker did
that died. Shards are what a killed build goes on from, as on one machine; they are made of the same batches.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foir import images
from foir.errors import FoirError, Unavailable
from foir.index import writer
from foir.search.encoder_check import MIN_COSINE
from index_build.decoding import Decoded, decoded
from index_build.encoding import Eyes, Frames, MadeBy
from index_build.shards import Batch, Hands, batch_of, batched
from index_build.sources.folder import Files, Run

LOCAL = "local"
DECODING = 0.5  # CPUs of a decoder; Ray fuses stages that ask for the same, and who encodes should not wait for files
BLOCK = 16 * 2**20  # bytes that go from stage to stage at once: about a batch


def hands(
    address: str, frames: Frames, eyes: Callable[[], Eyes], made_by: Mapping[str, MadeBy], out: Path, thumb_side: int
) -> Hands:
    """The hands of a cluster.

    Args:
        address: Of a running cluster ("ray://HOST:10001", "auto"), or "local" for one on this machine alone.
        frames: What its decoders make of a picture.
        eyes: Opens the encoders; called once by each actor.
        made_by: What they must be; a worker may have other weights.
        out: The index.
        thumb_side: Longer side of the thumbnails in pixels.
    """

    def made(runs: Sequence[Run]) -> Iterator[Iterable[Batch]]:
        if not runs:
            return
        with _cluster(address):
            rows = _rows(runs, frames, eyes, made_by, thumb_side)
            for run in runs:
                yield _of_run(len(run), rows, out)

    return made


def _of_run(left: int, rows: Iterator[dict[str, Any]], out: Path) -> Iterator[Batch]:
    """The batches of a run of so many pictures, which come in order; their thumbnails are written here."""
    while left:
        with _told():
            made = next(rows)["made"]
        batch, thumbs = pickle.loads(made)  # noqa: S301 - of our own workers
        for jpeg in thumbs:
            writer.write_thumb(out, jpeg)
        left -= len(batch.items) + len(batch.rejected)
        yield batch


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong on a worker, in one sentence: foir's own, wherever it is in the chain.

    Raises:
        Unavailable: It did.
    """
    try:
        yield
    except Exception as error:
        seen: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None and cause not in seen:
            if isinstance(cause, FoirError):
                raise type(cause)(str(cause).strip().splitlines()[-1]) from error
            seen.append(cause)
            cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
        if not any(type(one).__module__.startswith("ray") for one in seen):
            raise
        said = [line for line in str(error).strip().splitlines() if line.strip()]
        raise Unavailable(f"The Ray cluster could not go on: {said[-1].strip() if said else repr(error)}") from error


def _rows(
    runs: Sequence[Run], frames: Frames, eyes: Callable[[], Eyes], made_by: Mapping[str, MadeBy], thumb_side: int
) -> Iterator[dict[str, Any]]:
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True  # else every run would be open at once
    context.enable_progress_bars, context.target_max_block_size = False, BLOCK
    resources = ray.cluster_resources()
    cards = int(resources.get("GPU", 0))
    actors = cards or max(1, int(resources.get("CPU", 1)) // 2)
    share: dict[str, Any] = {"num_gpus": 1} if cards else {"num_cpus": 1}
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=actors)
    listed = ray.data.from_items([{"run": pickle.dumps(run)} for run in runs], override_num_blocks=len(runs))
    pictures = listed.flat_map(partial(_decode, frames, thumb_side), num_cpus=DECODING)
    return iter(pictures.map(_Seeing, fn_constructor_args=(eyes, made_by), compute=pool, **share).iter_rows())


def _decode(frames: Frames, thumb_side: int, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """On a CPU: a run's pictures, batch by batch."""
    run: Run = pickle.loads(row["run"])  # noqa: S301 - of our own driver
    if isinstance(run, Files) and not run.folder.is_dir():
        raise Unavailable(f"A worker of the cluster does not see {run.folder}: put the pictures on shared storage.")
    jpegs: dict[str, bytes] = {}

    def keep(image: Image.Image) -> str:
        jpeg = images.thumbnail(image, thumb_side)
        digest = hashlib.sha256(jpeg).hexdigest()
        jpegs[digest] = jpeg
        return digest

    for some in batched(decoded(run.pictures(), frames.pixels, keep)):
        thumbs = [jpegs[one.item.thumb] for one in some if isinstance(one, Decoded)]
        yield {"decoded": pickle.dumps((some, thumbs))}


class _Seeing:
    """On a GPU where there is one: an actor that opened the encoders once."""

    def __init__(self, eyes: Callable[[], Eyes], made_by: Mapping[str, MadeBy]) -> None:
        self.eyes = eyes()
        for name, by in self.eyes.made_by.items():
            own = made_by[name]
            alike = float(np.dot(by.probe, own.probe)) if len(by.probe) == len(own.probe) else 0.0
            if (by.encoder, by.revision, by.way) != (own.encoder, own.revision, own.way) or alike < MIN_COSINE:
                raise Unavailable(f"A worker of the cluster has another {own.encoder} than the one that asks it.")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        some, thumbs = pickle.loads(row["decoded"])  # noqa: S301 - of our own decoders
        pixels = [one.pixels for one in some if isinstance(one, Decoded)]
        return {"made": pickle.dumps((batch_of(some, self.eyes.see(pixels) if pixels else None), thumbs))}


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """A cluster to build on.

    Raises:
        Unavailable: Ray is not installed, or no cluster is there.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Unavailable("Ray is not installed: pip install -r requirements-scale.txt.") from error
    there = ray.is_initialized()
    try:
        ray.init(
            address=address,
            ignore_reinit_error=True,
            include_dashboard=False if address == LOCAL else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise Unavailable(f"No Ray cluster answers at {address}.") from error
    try:
        yield
    finally:
        if not there:
            ray.shutdown()
