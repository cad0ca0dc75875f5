"""Where files from outside lie: pinned downloads from the Hugging Face Hub and uploads to it, the folder with photos.

HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are honoured by the Hub's client.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from foir.errors import Unavailable


class NotOnHub(Unavailable):
    """The Hub has no such repository or revision, or says so."""


PAUSES = (1.0, 3.0, 9.0)  # seconds between tries
NAME = r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.-]*"  # of an owner, a repository, a revision; safe in a path and in a URL
GLOB = "*?[]"  # the client would take a name with one of these for a pattern
REPOSITORY, REVISION, COMMIT = re.compile(f"{NAME}/{NAME}"), re.compile(NAME), re.compile("[0-9a-f]{40}")


def data_folder() -> Path:
    """The folder with real photos: FOIR_DATA, by default ../shared/data beside the checkout."""
    return Path(os.environ.get("FOIR_DATA", Path(__file__).parents[2] / "shared" / "data"))


def cache_folder() -> Path:
    """Where foir keeps what it could make or fetch again: XDG_CACHE_HOME/foir, by default ~/.cache/foir."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foir"


def check_address(repo: str, revision: str | None = None) -> None:
    """Refuse what is no plain name of a repository or of a revision.

    Raises:
        Unavailable: It is none.
    """
    if not REPOSITORY.fullmatch(repo):
        raise Unavailable(f"{repo!r} is no name of a repository (owner/name).")
    if revision is not None and not REVISION.fullmatch(revision):
        raise Unavailable(f"{revision!r} is no commit, tag or branch that foir asks for.")


def download_weights(repo: str, revision: str | None = None, *, code: bool = False) -> tuple[Path, str]:
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

    check_address(repo, revision)

    def fetch(*patterns: str) -> Path:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))

    with hub_errors(f"The weights {repo}"):
        about = ("*.json", "*.txt", "*.model", *(("*.py",) if code else ()))
        folder = fetch(*about, "*.safetensors")
        if not any(folder.glob("*.safetensors")):
            folder = fetch(*about, "pytorch_model*.bin")  # read with torch.load(weights_only=True)
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise Unavailable(f"The repository {repo} holds no weights foir can read.")
    return folder, folder.name


def download_tables(repo: str) -> Path:
    """Fetch the parquet files of a data set's main branch, or find them in the local cache.

    Returns:
        The local folder, laid out as the repository is.

    Raises:
        Unavailable: Neither cached nor reachable, or gated.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(f"The data set {repo}"):
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=["*.parquet"]))


def resolve_commit(repo: str, revision: str | None = None) -> str:
    """The commit that a branch or tag of a data set repository stands at, or the newest one.

    Raises:
        Unavailable: Absent, gated, or not reachable.
    """
    from huggingface_hub import HfApi

    check_address(repo, revision)
    with hub_errors(f"The data set {repo}"):
        return str(_patiently(lambda: HfApi().dataset_info(repo, revision=revision).sha))


def download_files(repo: str, sha: str, names: Sequence[str], *, again: bool = False) -> Path:
    """Fetch some files of a data set repository at a commit; what the local cache holds is not fetched again.

    Args:
        repo: "owner/name".
        sha: The commit.
        names: The files.
        again: Fetch them although the cache holds them.

    Returns:
        The local folder.

    Raises:
        Unavailable: One is absent, the repository is gated, or the connection broke; what was fetched is kept.
    """
    from huggingface_hub import snapshot_download

    check_address(repo, sha)
    if any(sign in name for name in names for sign in GLOB):
        raise Unavailable(f"The data set {repo} names a file with a sign of a pattern in it.")
    with hub_errors(f"The data set {repo}"):
        fetch = partial(snapshot_download, repo, repo_type="dataset", revision=sha, force_download=again)
        return Path(_patiently(partial(fetch, allow_patterns=list(names))))


def list_files(repo: str, sha: str) -> list[str]:
    """The files of a data set repository at a commit, sorted.

    Raises:
        Unavailable: Absent, gated, or not reachable.
    """
    from huggingface_hub import HfApi

    check_address(repo, sha)
    with hub_errors(f"The data set {repo}"):
        return sorted(HfApi().list_repo_files(repo, repo_type="dataset", revision=sha))


def open_file(repo: str, sha: str, name: str) -> AbstractContextManager[Any]:
    """A file of a data set repository at a commit, open for reading; only what is read of it is fetched."""
    from huggingface_hub import HfFileSystem

    check_address(repo, sha)
    file: AbstractContextManager[Any] = HfFileSystem().open(f"datasets/{repo}@{sha}/{name}", "rb")
    return file


def upload_folder(
    repo: str,
    folder: Path,
    message: str,
    *,
    private: bool = False,
    replaces: Sequence[str] = (),
    space: bool = False,
) -> str:
    """Commit a folder's files to a data set repository, which is made where there is none; returns the commit.

    Args:
        repo: "owner/name"; HF_TOKEN must allow writing to it.
        folder: Its files keep their paths; those that are there already are not sent again.
        message: Of the commit.
        private: Make the repository private if it is made.
        replaces: Patterns of files that are removed from it unless the folder holds them.
        space: It is not a data set, but a Space that is there.

    Raises:
        Unavailable: Not allowed, or the connection broke; uploading again goes on behind what was sent.
    """
    from huggingface_hub import HfApi

    check_address(repo)
    kind = "space" if space else "dataset"
    with hub_errors(f"The {'Space' if space else 'data set'} {repo}", "cannot be written"):
        api = HfApi()
        if not space:
            _patiently(lambda: api.create_repo(repo, repo_type=kind, private=private, exist_ok=True))
        return str(
            _patiently(
                lambda: api.upload_folder(
                    repo_id=repo,
                    repo_type=kind,
                    folder_path=folder,
                    commit_message=message,
                    delete_patterns=list(replaces) or None,
                )
            ).oid
        )


def create_space(repo: str, *, private: bool = False) -> None:
    """Make an empty Space that Gradio serves, unless it is there.

    Raises:
        Unavailable: Not allowed, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    check_address(repo)
    with hub_errors(f"The Space {repo}", "cannot be made"):
        create = partial(HfApi().create_repo, repo, repo_type="space", space_sdk="gradio", private=private)
        _patiently(partial(create, exist_ok=True))


def set_space_variable(repo: str, name: str, value: str | None) -> None:
    """Set an environment variable of a Space, or remove it.

    Raises:
        Unavailable: Not allowed, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with hub_errors(f"The Space {repo}", "cannot be set up"):
        api = HfApi()
        if value is not None:
            _patiently(lambda: api.add_space_variable(repo, name, value))
        elif name in _patiently(lambda: api.get_space_variables(repo)):
            _patiently(lambda: api.delete_space_variable(repo, name))


def _patiently(call: Callable[[], Any]) -> Any:
    """Call again, a few times, where the Hub asks for patience; its client does so for some requests only."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for pause in (*PAUSES, None):
        try:
            return call()
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            status = _status(error) or 0
            if pause is None or (status != 429 and status < 500):
                raise
            time.sleep(pause)


def _status(error: BaseException | None) -> int | None:
    """What the Hub answered, if an answer was the cause."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def hub_errors(what: str, failing: str = "cannot be fetched") -> Iterator[None]:
    """Turn what the Hub and its client raise into one sentence about `what`.

    Raises:
        Unavailable: Whatever happened.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise Unavailable(f"{what} is gated: ask for access on its page, and set HF_TOKEN.") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise NotOnHub(
            f"{what} is not on the Hub, or not for you, or has no such revision: if it is private, set HF_TOKEN."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if (status := _status(error)) is not None:
            raise Unavailable(f"{what} {failing}: the Hub answers with {status}; try again later.") from error
        raise Unavailable(
            f"{what} {failing} and is not on this machine: connect to the network, or set HF_HOME to a cache that "
            "holds it."
        ) from error
    except errors.HfHubHTTPError as error:
        raise Unavailable(f"{what} {failing}: the Hub answers with {_status(error)}; try again later.") from error
    except errors.HFValidationError as error:
        raise Unavailable(f"{what} {failing}: that is no name of a repository (owner/name).") from error
    except Exception as error:
        # Which httpx a version of the Hub's client brings, differs; what is no JSON did not come from the Hub.
        if not isinstance(error, OSError | json.JSONDecodeError) and not type(error).__module__.startswith("httpx"):
            raise
        raise Unavailable(f"{what} {failing}: the connection to the Hub broke; try again.") from error
