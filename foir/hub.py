"""Pinned downloads from the Hugging Face Hub; HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are honoured by its client."""

from __future__ import annotations

from pathlib import Path

from foir.errors import Unavailable


def weights(repo: str, revision: str | None = None) -> tuple[Path, str]:
    """Fetch a model's configuration and weights, or find them in the local cache.

    Args:
        repo: "owner/name" of a model repository.
        revision: Commit, tag or branch; the repository's main branch if left out.

    Returns:
        The local folder and the commit it holds.

    Raises:
        Unavailable: Neither cached nor reachable, gated, or without weights.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def fetch(*patterns: str) -> Path:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))

    try:
        folder = fetch("*.json", "*.safetensors")
        if not any(folder.glob("*.safetensors")):
            folder = fetch("*.json", "pytorch_model.bin")  # read with torch.load(weights_only=True)
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise Unavailable(
            f"The weights {repo} are not on this machine and cannot be fetched: connect to the network, "
            "or set HF_HOME to a cache that holds them."
        ) from error
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model.bin")):
        raise Unavailable(f"The repository {repo} holds no weights foir can read.")
    return folder, folder.name
