"""Chooses the executor and the store of a build. Nothing else knows which of them exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .encoding import SpaceEncoders
from .executor import Executor
from .local_executor import LocalExecutor
from .store import FileStore, Store


def open_executor(ray_address: str | None, load: Callable[[], SpaceEncoders], out: Path, thumb_side: int) -> Executor:
    """Open the executor of a build.

    Args:
        ray_address: Address of a Ray cluster, "local" for one on this machine; None for this process alone.
        load: Loads the encoders.
        out: The index.
        thumb_side: Longer side of the thumbnails in pixels.

    Raises:
        Unavailable: An encoder cannot be loaded.
    """
    if ray_address is None:
        return LocalExecutor(load(), out, thumb_side)
    from . import ray_executor

    return ray_executor.RayExecutor(ray_address, load, out, thumb_side)


def open_store(address: str | None) -> Store:
    """Open the store of a build.

    Args:
        address: "milvus:URI"; None for the files of the index.

    Raises:
        Unavailable: There is no such store, or it does not answer.
    """
    if address is None:
        return FileStore()
    from .milvus_store import MilvusStore

    return MilvusStore(address)


def drop_unused_rows(out: Path) -> None:
    """Drop what databases keep of older states of an index.

    Raises:
        Unavailable: A database does not answer.
    """
    from . import milvus_collections

    milvus_collections.drop_unused(out)
