"""Building on a Ray cluster: its CPUs decode images, actors encode them, and this process writes the shards.

Ray Data moves batches between the stages, slows decoding down while encoding is behind, and repeats the work of a
worker that died. A killed build resumes from its shards as on one machine: both make the same batches.
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

from .decoding import DecodedImage, decode_images
from .encoding import EncoderRecord, Preprocess, SpaceEncoders
from .executor import Batch, encode_batch, enough_pixels, group_batches
from .sources import Chunk
from .sources.folder import FolderChunk

LOCAL = "local"
DECODER_CPUS = 0.5  # Ray fuses stages that ask for the same resources, and an encoder should not wait for files
DECODER_THREADS = 2  # of each of the many workers of a machine
BLOCK_BYTES = 16 * 2**20  # moved between stages at once: about a batch


class RayExecutor:
    """The executor of a Ray cluster; see `index_build.executor.Executor`."""

    def __init__(self, address: str, load: Callable[[], SpaceEncoders], out: Path, thumb_side: int) -> None:
        """Load the encoders here too, to know what those of the workers must be.

        Args:
            address: Of a running cluster ("ray://HOST:10001", "auto"), or "local" for one on this machine alone.
            load: Loads the encoders. Each actor calls it once.
            out: The index.
            thumb_side: Longer side of the thumbnails in pixels.
        """
        encoders = load()
        self.address, self.load, self.out, self.thumb_side = address, load, out, thumb_side
        self.preprocess, self.records = encoders.preprocess, encoders.records
        self.min_side = enough_pixels(encoders, thumb_side)
        self.region_recipe = encoders.region_recipe

    def run(self, chunks: Sequence[Chunk]) -> Iterator[Iterable[Batch]]:
        """The batches of each chunk; see `Executor.run`."""
        if not chunks:
            return
        with _cluster(self.address):
            rows = self._stream(chunks)
            for chunk in chunks:
                yield self._receive(len(chunk), rows)

    def _receive(self, remaining: int, rows: Iterator[dict[str, Any]]) -> Iterator[Batch]:
        """The batches of a chunk of so many images, which arrive in order. Their thumbnails are written here."""
        while remaining:
            with _worker_errors():
                row = next(rows)
            batch, thumbnails = pickle.loads(row["batch"])  # noqa: S301 - of our own workers
            for jpeg in thumbnails:
                writer.write_thumb(self.out, jpeg)
            remaining -= len(batch.items) + len(batch.rejected)
            yield batch

    def _stream(self, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
        """The pickled batches of all chunks in order."""
        import ray

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True  # else every chunk would be open at once
        context.enable_progress_bars, context.target_max_block_size = False, BLOCK_BYTES
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        actors = gpus or max(1, int(resources.get("CPU", 1)) // 2)
        options: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        options["compute"] = ray.data.ActorPoolStrategy(min_size=1, max_size=actors)
        options["fn_constructor_args"] = (self.load, self.records, self.region_recipe)
        rows = [{"chunk": pickle.dumps(chunk)} for chunk in chunks]
        decode = partial(_decode, self.preprocess, self.thumb_side, self.min_side)
        decoded = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(decode, num_cpus=DECODER_CPUS)
        return iter(decoded.map(_EncoderActor, **options).iter_rows())


@contextmanager
def _worker_errors() -> Iterator[None]:
    """Report an error of a worker in one sentence: foir's own error, wherever it is in the chain of causes.

    Raises:
        Unavailable: A worker failed.
    """
    try:
        yield
    except Exception as error:
        chain: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None and cause not in chain:
            if isinstance(cause, FoirError):
                raise type(cause)(str(cause).strip().splitlines()[-1]) from error
            chain.append(cause)
            cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
        if not any(type(each).__module__.startswith("ray") for each in chain):
            raise
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        raise Unavailable(f"The Ray cluster failed: {lines[-1].strip() if lines else repr(error)}") from error


def _decode(preprocess: Preprocess, thumb_side: int, min_side: int, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs on a CPU: the images of a chunk, decoded batch by batch."""
    chunk: Chunk = pickle.loads(row["chunk"])  # noqa: S301 - of our own driver
    if isinstance(chunk, FolderChunk) and not chunk.folder.is_dir():
        raise Unavailable(f"A worker of the cluster does not see {chunk.folder}: put the images on shared storage.")
    jpegs: dict[str, bytes] = {}

    def store_thumbnail(image: Image.Image) -> str:
        jpeg = images.thumbnail(image, thumb_side)
        digest = hashlib.sha256(jpeg).hexdigest()
        jpegs[digest] = jpeg
        return digest

    decoded = decode_images(chunk.images(), preprocess, store_thumbnail, DECODER_THREADS, min_side=min_side)
    for group in group_batches(decoded):
        thumbnails = [jpegs[image.item.thumb] for image in group if isinstance(image, DecodedImage)]
        yield {"decoded": pickle.dumps((group, thumbnails))}


class _EncoderActor:
    """Runs on a GPU where there is one: an actor that loads the encoders once."""

    def __init__(
        self, load: Callable[[], SpaceEncoders], records: Mapping[str, EncoderRecord], region_recipe: str
    ) -> None:
        self.encoders = load()
        is_same_recipe = self.encoders.region_recipe == region_recipe
        for name, own in self.encoders.records.items():
            expected = records[name]
            ours, theirs = own.reference_feature, expected.reference_feature
            cosine = float(np.dot(ours, theirs)) if len(ours) == len(theirs) else 0.0
            same = (own.encoder, own.revision) == (expected.encoder, expected.revision)
            if not (same and is_same_recipe) or cosine < MIN_COSINE:
                raise Unavailable(f"A worker of the cluster has another {expected.encoder} than this machine.")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        group, thumbnails = pickle.loads(row["decoded"])  # noqa: S301 - of our own decoders
        return {"batch": pickle.dumps((encode_batch(group, self.encoders), thumbnails))}


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine.

    Raises:
        Unavailable: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Unavailable("Ray is not installed: pip install -r requirements-scale.txt.") from error
    was_connected = ray.is_initialized()
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
        if not was_connected:
            ray.shutdown()
