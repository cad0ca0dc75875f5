"""The Hugging Face Hub: pinned downloads and uploads; also the folders of photos and of caches.

The Hub's client honours HF_HOME, HF_TOKEN and HF_HUB_OFFLINE.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import tenacity

from foir.errors import Unavailable, describe_os_error, is_disk_error


class NotOnHub(Unavailable):
    """The Hub has no such repository or revision, or hides it."""


PAUSES = (1.0, 3.0, 9.0)  # seconds between attempts
NAME = r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.-]*"  # of an owner, a repository, a revision; safe in a path and in a URL
GLOB = "*?[]"  # the client takes a name with one of these for a pattern
REPOSITORY, REVISION, COMMIT = re.compile(f"{NAME}/{NAME}"), re.compile(NAME), re.compile("[0-9a-f]{40}")


def data_folder() -> Path:
    """The folder with real photos: FOIR_DATA, by default ../shared/data beside the checkout."""
    return Path(os.environ.get("FOIR_DATA", Path(__file__).parents[2] / "shared" / "data"))


def cache_folder() -> Path:
    """The folder for what can be made or fetched again: XDG_CACHE_HOME/foir, by default ~/.cache/foir."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foir"


def check_address(repo: str, revision: str | None = None) -> None:
    """Refuse anything but plain names of a repository and a revision.

    Raises:
        Unavailable: One of them is not plain.
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
        code: Also the model's own Python files, which loading the model executes.

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
        configuration = ("*.json", "*.txt", "*.model", *(("*.py",) if code else ()))
        folder = fetch(*configuration, "*.safetensors")
        if not any(folder.glob("*.safetensors")):
            folder = fetch(*configuration, "pytorch_model*.bin")  # read with torch.load(weights_only=True)
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
    """The commit of a branch or tag of a data set repository; the newest one if left out.

    Raises:
        Unavailable: Absent, gated, or not reachable.
    """
    from huggingface_hub import HfApi

    check_address(repo, revision)
    with hub_errors(f"The data set {repo}"):
        return str(_with_retries(lambda: HfApi().dataset_info(repo, revision=revision).sha))


def download_files(repo: str, sha: str, names: Sequence[str], *, force: bool = False) -> Path:
    """Fetch files of a data set repository at a commit; cached files are not fetched again.

    Args:
        repo: "owner/name".
        sha: The commit.
        names: The files.
        force: Fetch them although they are cached.

    Returns:
        The local folder.

    Raises:
        Unavailable: A file is absent, the repository is gated, or the connection broke; fetched files are kept.
    """
    from huggingface_hub import snapshot_download

    check_address(repo, sha)
    if any(sign in name for name in names for sign in GLOB):
        raise Unavailable(f"The data set {repo} names a file with a pattern character in it.")
    with hub_errors(f"The data set {repo}"):
        fetch = partial(snapshot_download, repo, repo_type="dataset", revision=sha, force_download=force)
        return Path(_with_retries(partial(fetch, allow_patterns=list(names))))


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
    """Open a file of a data set repository at a commit for reading; only the bytes that are read are fetched."""
    from huggingface_hub import HfFileSystem

    check_address(repo, sha)
    file: AbstractContextManager[Any] = HfFileSystem().open(f"datasets/{repo}@{sha}/{name}", "rb")
    return file


def upload_folder(
    repo: str, folder: Path, message: str, *, private: bool = False, replaces: Sequence[str] = (), space: bool = False
) -> str:
    """Commit a folder's files to a data set repository, created if absent, or to a Space; returns the commit.

    Args:
        repo: "owner/name"; HF_TOKEN must allow writing to it.
        folder: Its files keep their paths; files that the repository has are not sent again.
        message: Commit message.
        private: Create the repository as private.
        replaces: Patterns of files that are removed from it unless the folder holds them.
        space: The repository is an existing Space.

    Raises:
        Unavailable: Not allowed, or the connection broke; the next upload resumes.
    """
    from huggingface_hub import HfApi

    check_address(repo)
    kind = "space" if space else "dataset"
    with hub_errors(f"The {'Space' if space else 'data set'} {repo}", "cannot be written"):
        api = HfApi()
        if not space:
            _with_retries(lambda: api.create_repo(repo, repo_type=kind, private=private, exist_ok=True))
        return str(
            _with_retries(
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
    """Create an empty Gradio Space unless it exists.

    Raises:
        Unavailable: Not allowed, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    check_address(repo)
    with hub_errors(f"The Space {repo}", "cannot be created"):
        create = partial(HfApi().create_repo, repo, repo_type="space", space_sdk="gradio", private=private)
        _with_retries(partial(create, exist_ok=True))


def set_space_variable(repo: str, name: str, value: str | None) -> None:
    """Set an environment variable of a Space; None removes it.

    Raises:
        Unavailable: Not allowed, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with hub_errors(f"The Space {repo}", "cannot be set up"):
        api = HfApi()
        if value is not None:
            _with_retries(lambda: api.add_space_variable(repo, name, value))
        elif name in _with_retries(lambda: api.get_space_variables(repo)):
            _with_retries(lambda: api.delete_space_variable(repo, name))


def _with_retries(call: Callable[[], Any]) -> Any:
    """Call again while the Hub is overloaded (429, 5xx); its client does so for some requests only."""
    pauses = tenacity.wait_chain(*map(tenacity.wait_fixed, PAUSES))
    stop = tenacity.stop_after_attempt(len(PAUSES) + 1)
    retry = tenacity.retry_if_exception(_is_overload)
    return tenacity.Retrying(wait=pauses, stop=stop, retry=retry, reraise=True)(call)


def _is_overload(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    status = _status(error) or 0
    return isinstance(error, HfHubHTTPError | LocalEntryNotFoundError) and (status == 429 or status >= 500)


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that caused an error, if one did."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def hub_errors(what: str, failing: str = "cannot be fetched") -> Iterator[None]:
    """Turn errors of the Hub and its client into one sentence about `what`.

    Raises:
        Unavailable: In place of every such error.
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
        if isinstance(error, OSError) and is_disk_error(error):
            raise Unavailable(describe_os_error(f"{what} {failing}", error)) from error
        # The httpx package differs between versions of the client; what is no JSON did not come from the Hub.
        if not isinstance(error, OSError | json.JSONDecodeError) and not type(error).__module__.startswith("httpx"):
            raise
        raise Unavailable(f"{what} {failing}: the connection to the Hub broke; try again.") from error
