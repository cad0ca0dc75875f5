"""Where files from outside lie: pinned downloads from the Hugging Face Hub, and the folder with real photos.

HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are honoured by the Hub's client.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foir.errors import Unavailable


def photos() -> Path:
    """The folder with real photos: FOIR_DATA, by default ../shared/data beside the checkout."""
    return Path(os.environ.get("FOIR_DATA", Path(__file__).parents[2] / "shared" / "data"))


def weights(repo: str, revision: str | None = None, *, code: bool = False) -> tuple[Path, str]:
    """Fetch a model's configuration, vocabulary and weights, or find them in the local cache.

    Args:
        repo: "owner/name" of a model repository.
        revision: Commit, tag or branch; the repository's main branch if left out.
        code: Also the model's own Python files, which whoever loads them runs.

    Returns:
        The local folder and the commit it holds.

    Raises:
        Unavailable: Neither cached nor reachable, gated, or without weights.
    """
    from huggingface_hub import snapshot_download

    def fetch(*patterns: str) -> Path:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))

    with _reachable(f"The weights {repo}"):
        about = ("*.json", "*.txt", "*.model", *(("*.py",) if code else ()))
        folder = fetch(*about, "*.safetensors")
        if not any(folder.glob("*.safetensors")):
            folder = fetch(*about, "pytorch_model*.bin")  # read with torch.load(weights_only=True)
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise Unavailable(f"The repository {repo} holds no weights foir can read.")
    return folder, folder.name


def tables(repo: str) -> Path:
    """Fetch the parquet files of a data set's main branch, or find them in the local cache.

    Returns:
        The local folder, laid out as the repository is.

    Raises:
        Unavailable: Neither cached nor reachable, or gated.
    """
    from huggingface_hub import snapshot_download

    with _reachable(f"The data set {repo}"):
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=["*.parquet"]))


@contextmanager
def _reachable(what: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise Unavailable(
            f"{what} cannot be fetched and is not on this machine: connect to the network, "
            "or set HF_HOME to a cache that holds it."
        ) from error
