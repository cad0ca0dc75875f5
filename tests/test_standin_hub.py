"""The real client of the Hugging Face Hub against the stand-in: what comes back, and what the client does about faults.

Whoever publishes or fetches has to do what the client leaves undone; a new version of it that leaves more fails here.
"""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests import standin_hub

hub = standin_hub.hub
REPO = "tester/pictures"
LARGE = bytes(range(256)) * 600
FILES = {"README.md": b"---\nlicense: mit\n---\n", "a/small.txt": b"small", "a/large.bin": LARGE}


@pytest.fixture
def api(hub):
    return HfApi()


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "folder"


def upload(api, folder, **options):
    return api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=folder, **options).oid


def snapshot(revision=None, repo=REPO):
    """The files of a downloaded snapshot."""
    root = Path(snapshot_download(repo, repo_type="dataset", revision=revision))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def file(path="a/large.bin"):
    return Path(hf_hub_download(REPO, path, repo_type="dataset")).read_bytes()


def asked(hub, method, ending):
    """Range header and status of the requests to an address with this ending."""
    return [(r.range, r.status) for r in hub.requests if r.method == method and r.path.endswith(ending)]


def test_an_uploaded_folder_comes_back_at_its_commit(hub, api, folder):
    url = api.create_repo(REPO, repo_type="dataset", private=True)
    commit = upload(api, folder)
    assert url == f"{hub.url}/datasets/{REPO}"
    assert {name: data for name, data in hub.files(REPO).items() if name != ".gitattributes"} == FILES
    assert snapshot(commit) == hub.files(REPO)
    assert [r.status for r in hub.requests if r.method == "PUT"] == [200]  # the large file, as large
    assert api.dataset_info(REPO).private
    assert api.whoami()["name"] == "tester"


def test_an_older_commit_stays_as_it_was(hub, api, folder):
    api.create_repo(REPO, repo_type="dataset")
    old = upload(api, folder)
    (folder / "a" / "small.txt").write_bytes(b"other")
    new = upload(api, folder, delete_patterns="*.bin", ignore_patterns="*.bin", parent_commit=old)
    assert snapshot(old)["a/small.txt"] == b"small"
    assert snapshot(new) == snapshot("main") == snapshot() == hub.files(REPO)
    assert hub.files(REPO)["a/small.txt"] == b"other" and "a/large.bin" not in hub.files(REPO)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api.delete_file("README.md", REPO, repo_type="dataset", parent_commit=old)


def test_what_is_there_is_neither_made_nor_sent_again(hub, api, folder):
    api.create_repo(REPO, repo_type="dataset")
    commit = upload(api, folder)
    api.create_repo(REPO, repo_type="dataset", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo(REPO, repo_type="dataset")
    assert upload(api, folder) == commit
    assert len(asked(hub, "PUT", "")) == 1


def test_a_repository_is_described_and_listed_by_branch_and_commit(hub, api):
    old, new = hub.add(REPO, FILES), hub.add(REPO, {"b": b"2"})
    assert api.repo_info(REPO, repo_type="dataset").sha == api.dataset_info(REPO, revision="main").sha == new
    assert api.dataset_info(REPO, revision=old).sha == old
    assert api.list_repo_files(REPO, repo_type="dataset", revision=old) == sorted(FILES)
    assert {entry.path for entry in api.list_repo_tree(REPO, repo_type="dataset")} == {"README.md", "a", "b"}
    inside = {entry.path: entry for entry in api.list_repo_tree(REPO, "a", repo_type="dataset")}
    assert (inside["a/large.bin"].lfs.size, inside["a/small.txt"].lfs) == (len(LARGE), None)


def test_a_broken_download_is_resumed(hub):
    hub.add(REPO, FILES)
    hub.cut("a/large.bin", after=100_000)
    assert file() == LARGE
    assert asked(hub, "GET", "large.bin") == [("", 200), ("bytes=98304-", 206)]  # whole chunks are kept


def test_a_download_given_up_starts_over(hub):
    hub.add(REPO, FILES)
    hub.cut("a/large.bin", after=100_000)
    hub.cut("a/large.bin", after=0, times=5)
    with pytest.raises(httpx2.RemoteProtocolError):  # neither an OSError nor one of the client's own
        file()
    assert len(asked(hub, "GET", "large.bin")) == 6
    hub.requests.clear()
    assert file() == LARGE
    assert asked(hub, "GET", "large.bin") == [("", 200)]


def test_a_gated_repository_is_listed_but_not_served(hub, api):
    hub.gated.add(REPO)
    hub.add(REPO, FILES)
    assert api.dataset_info(REPO).gated == "auto"
    for fetch in (snapshot, file):
        with pytest.raises(GatedRepoError):
            fetch()
    hub.heal()
    assert snapshot() == FILES


def test_what_is_absent_is_said_to_be(hub, api, monkeypatch):
    hub.add(REPO, FILES)
    with pytest.raises(RepositoryNotFoundError):
        snapshot(repo="tester/absent")
    with pytest.raises(RevisionNotFoundError):
        snapshot("0" * 40)
    with pytest.raises(RemoteEntryNotFoundError):
        file("absent")
    monkeypatch.delenv("HF_TOKEN")
    hub.private.add(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info(REPO, token=False)


def fetch_info(api, folder):
    api.dataset_info(REPO)


def fetch_snapshot(api, folder):
    snapshot(api.dataset_info(REPO).sha)


def publish(api, folder):
    api.create_repo(REPO, repo_type="dataset", exist_ok=True)
    upload(api, folder)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("act", "method", "address", "repeated_after"),
    [
        (lambda api, folder: api.whoami(), "GET", "/whoami-v2", ()),
        (fetch_info, "GET", f"/api/datasets/{REPO}", ()),
        (fetch_snapshot, "GET", "/tree/", (429, 503)),
        (fetch_snapshot, "HEAD", "/resolve/", (429, 503)),
        (fetch_snapshot, "GET", "/resolve/", (429,)),
        (publish, "POST", "/repos/create", ()),
        (publish, "POST", "/validate-yaml", ()),
        (publish, "POST", "/preupload/", (429, 503)),
        (publish, "POST", "/objects/batch", (429, 503)),
        (publish, "PUT", "/lfs/", (429, 503)),
        (publish, "POST", "/verify", (429, 503)),
        (publish, "POST", "/commit/", ()),
    ],
)
def test_which_requests_the_client_repeats(hub, api, folder, act, method, address, repeated_after, status):
    if act is not publish:
        hub.add(REPO, {"a/large.bin": LARGE})
    hub.fail(status, 2, address, method)
    if status in repeated_after:
        act(api, folder)
    else:
        with pytest.raises(HfHubHTTPError):
            act(api, folder)
    answers = [r.status for r in hub.requests if r.method == method and address in r.path]
    assert answers == ([status, status, 200] if status in repeated_after else [status])


def test_a_corrupt_mirror_goes_unnoticed(hub, api):
    hub.add(REPO, FILES)
    hub.corrupt("a/large.bin")
    hub.corrupt("a/small.txt")
    received = snapshot()
    assert {name for name in FILES if received[name] != FILES[name]} == {"a/large.bin", "a/small.txt"}
    assert len(received["a/large.bin"]) == len(LARGE)
    found = api.verify_repo_checksums(REPO, repo_type="dataset")
    assert {wrong["path"] for wrong in found.mismatches} == {"a/large.bin", "a/small.txt"}


def test_out_of_reach_a_snapshot_comes_from_the_cache_or_not_at_all(hub):
    commit = hub.add(REPO, FILES)
    hub.stop()
    with pytest.raises(LocalEntryNotFoundError):
        snapshot()
    hub.start()
    assert snapshot() == FILES
    hub.stop()
    assert snapshot() == snapshot(commit) == FILES


def test_while_the_hub_is_in_trouble_main_is_what_it_was_here(hub):
    hub.add(REPO, {"a": b"old"})
    snapshot()
    hub.add(REPO, {"a": b"new"})
    hub.fail(503, 1, "/revision/main")
    assert snapshot() == {"a": b"old"}  # with no word about it
    assert snapshot() == {"a": b"new"}


def test_a_process_started_here_asks_the_stand_in_too(hub):
    hub.add(REPO, FILES)
    code = f"import huggingface_hub; print(huggingface_hub.snapshot_download({REPO!r}, repo_type='dataset'))"
    root = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert Path(root, "a", "large.bin").read_bytes() == LARGE
