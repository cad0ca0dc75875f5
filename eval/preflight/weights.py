"""Which weights are in the local cache of the Hub's client, which can be fetched, and the command that fetches them."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from foir import encoders, image_text
from foir.errors import Unavailable
from foir.hub import COMMIT, REPOSITORY
from foir.segment.loader import DEFAULT_SAM
from foir.small_objects.detect import OWL

from .needs import Need

TIMEOUT = 5.0  # seconds that the Hub has for its first answer
CHECKPOINTS = ("*.safetensors", "*pytorch_model*.bin")  # in the order in which foir prefers them
DETECTED = "detected boxes"  # rows
FINE = ("cached", "reachable")


class HubState:
    """What of the Hub is in the local cache and what can be fetched. The network is given up after one failure."""

    def __init__(self, code_commit: str | None = None) -> None:
        """Nothing is asked yet; `code_commit` is the one that the user names for weights that bring code."""
        self.code_commit, self.offline = code_commit, False
        self.weights, self.tables = cache(self._weights), cache(self._tables)

    def commit(self, repo: str) -> str:
        """The commit of the weights in the cache, all of their files; empty where some are missing."""
        folder = _snapshot(repo, "model")
        return folder.name if folder is not None and _is_complete(folder) else ""

    def cached_tables(self, repo: str) -> Path | None:
        """The folder of a data set in the cache, if it holds parquet files."""
        folder = _snapshot(repo, "dataset")
        return folder if folder is not None and any(path.exists() for path in folder.rglob("*.parquet")) else None

    def _weights(self, repo: str) -> str:
        """See `_ask`."""
        return "cached" if self.commit(repo) else self._ask(repo, "model")

    def _tables(self, repo: str) -> str:
        """See `_ask`."""
        return "cached" if self.cached_tables(repo) else self._ask(repo, "dataset")

    def _ask(self, repo: str, kind: str) -> str:
        """Ask for a repository: "reachable", "gated", "absent", or "offline" where there is no answer."""
        from huggingface_hub import HfApi, constants, errors

        if self.offline or constants.HF_HUB_OFFLINE:
            return "offline"
        try:
            info = HfApi().repo_info(repo, repo_type=kind, timeout=TIMEOUT)
            if getattr(info, "gated", False):
                HfApi().auth_check(repo, repo_type=kind)
        except errors.GatedRepoError:
            return "gated"
        except errors.RepositoryNotFoundError:
            return "absent"
        except Exception:  # of any of the client's layers: no answer
            self.offline = True
            return "offline"
        return "reachable"


def model_needs(name: str, state: HubState) -> list[Need]:
    """What a model's weights still need; nothing if they are cached or reachable."""
    repo = repository(name)
    if not repo:
        return [] if name.startswith("openclip") else _package_needs(name)
    needs = _repository_needs("weights", repo, state)
    if brings_code(name) and (os.environ.get("FOIR_REMOTE_CODE") != "1" or state.code_commit is None):
        source = f"Read it on https://huggingface.co/{repo}, set FOIR_REMOTE_CODE=1 and pass --revision COMMIT."
        needs.append(Need("weights", f"leave to run the code of {repo}", source))
    return needs


def detector_needs(name: str, state: HubState, *, has_masks: bool = True) -> list[Need]:
    """What the rows of detected objects still need: a detector and SAM; SAM also makes masks that a data set lacks."""
    if name == "mini":
        return []
    sam = os.environ.get("FOIR_SAM") or DEFAULT_SAM
    rows = DETECTED if has_masks else f"annotated boxes and {DETECTED}"
    needs = _repository_needs("detector", OWL, state, DETECTED)
    if sam.endswith((".pth", ".pt")) or not REPOSITORY.fullmatch(sam):
        source = "Set FOIR_SAM to a checkpoint of segment-anything or a repository on the Hub."
        return needs if Path(sam).exists() else [*needs, Need("detector", sam, source, rows)]
    return needs + _repository_needs("detector", sam, state, rows)


def brings_code(name: str) -> bool:
    """Whether a model's code comes with its weights."""
    entry = image_text.models().get(name)
    return entry is not None and entry.brings_code


def describe(name: str, state: HubState) -> str:
    """Where a model's weights are, in one line."""
    repo = repository(name)
    found = state.weights(repo) if repo else "in its package"
    return f"{name}: {repo or name}, {'fetched when they are first used' if found == 'reachable' else found}"


def revision(name: str, state: HubState) -> str:
    """The revision that a model would report if it were loaded now; empty where that is not known."""
    entry = image_text.models().get(name)
    if entry is not None and entry.weights.startswith("openclip"):
        return entry.weights.rpartition("/")[2]
    if brings_code(name):
        named = state.code_commit or ""
        return named if COMMIT.fullmatch(named) else ""
    repo = repository(name)
    return state.commit(repo) if repo and not name.startswith("openclip") else ""


def repository(name: str) -> str:
    """The Hub repository of a model's weights; empty where they come with a package.

    Raises:
        Unavailable: There is no model of this name.
    """
    entry = image_text.models().get(name)
    weights = entry.weights if entry is not None and entry.standalone else encoders.encoder_spec(name).weights
    if weights == "open_clip":
        weights = name
    if weights.startswith("openclip"):
        import open_clip

        model, _, tag = weights.partition(":")[2].partition("/")
        return str(open_clip.get_pretrained_cfg(model, tag).get("hf_hub", "")).strip("/")
    return weights if REPOSITORY.fullmatch(weights) else ""


def _package_needs(name: str) -> list[Need]:
    """What is wrong with weights that come with a package."""
    try:
        encoders.load(name, device="cpu")
    except Unavailable as error:
        return [Need("weights", name, str(error))]
    return []


def _repository_needs(kind: str, repo: str, state: HubState, rows: str = "") -> list[Need]:
    """What is missing of the weights in a repository."""
    found = state.weights(repo)
    source = f"hf download {repo}"
    if found == "gated":
        source = f"Ask for access on https://huggingface.co/{repo}, set HF_TOKEN, then: {source}"
    if found == "absent":
        source = f"https://huggingface.co/{repo} does not exist or is private: set HF_TOKEN, then: {source}"
    return [] if found in FINE else [Need(kind, repo, source, rows)]


def _snapshot(repo: str, kind: str) -> Path | None:
    """The folder of a repository's main branch in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, repo_type=kind, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _is_complete(folder: Path) -> bool:
    """Whether a snapshot has weights, all of them where an index lists several files."""
    for pattern in CHECKPOINTS:
        if files := list(folder.glob(pattern)):
            indexes = folder.glob(f"{pattern}.index.json")
            listed = {name for path in indexes for name in json.loads(path.read_text())["weight_map"].values()}
            return all((folder / name).exists() for name in {*listed, *(path.name for path in files)})
    return False
