"""A local stand-in of the Hugging Face Hub: what the real client needs of its protocol, and faults on demand."""

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session

LFS_SIZE = 100_000  # the Hub draws the line at 10 MB; here tests need not move that much
LFS_SUFFIXES = (".bin", ".npy", ".npz", ".parquet", ".safetensors", ".zip")
Answer = tuple[int, bytes, dict[str, str]]  # status, body, headers


class Request(NamedTuple):
    """One request as answered: path without query, Range header or ""."""

    method: str
    path: str
    range: str
    status: int


class RefusedError(Exception):
    """The request is answered with an error: status, the Hub's X-Error-Code, message."""


class Hub:
    """The stand-in: its repositories, the requests it answered, the faults it has been given."""

    def __init__(self) -> None:
        self.url = ""
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}  # files of each commit, the newest last: main
        self.private: set[str] = set()
        self.variables: dict[str, dict[str, str]] = {}  # of Spaces
        self.stored: dict[str, bytes] = {}  # large files by SHA-256, uploaded before the commit that names them
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.heal()
        self.start()

    def start(self) -> None:
        """Be reachable, after a stop at the same address."""
        self._server = _Server(("127.0.0.1", urlsplit(self.url).port or 0), _Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be unreachable: connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    close = stop

    def add(self, repo: str, files: Mapping[str, bytes], *, fresh: bool = False) -> str:
        """Commit files on top of what the repository, made if absent, holds, or fresh in its place; the commit."""
        commits = self.repos.setdefault(repo, {})
        files = {**(self.files(repo) if commits and not fresh else {}), **files}
        content = json.dumps([list(commits), {path: etag(path, data) for path, data in files.items()}])
        commit = hashlib.sha1(content.encode()).hexdigest()
        commits[commit] = dict(sorted(files.items()))
        return commit

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a snapshot as they were committed."""
        return self.find(repo, revision)[1]

    def find(self, repo: str, revision: str = "main") -> tuple[str, dict[str, bytes]]:
        """The commit that main or its own id names, and its files."""
        if repo not in self.repos:
            raise RefusedError(404, "RepoNotFound", "Repository not found")
        commit = list(self.repos[repo])[-1] if revision == "main" else revision
        if commit not in self.repos[repo]:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, dict(self.repos[repo][commit])

    def fail(self, status: int, times: int, containing: str = "", method: str = "") -> None:
        """Answer the next requests whose path contains the words, of any or one method, with this status."""
        self.faults += [(status, containing, method)] * times

    def cut(self, path: str, after: int, times: int = 1) -> None:
        """Close the connection after so many bytes of the file's next downloads, resumed ones included."""
        self.cuts += [(path, after)] * times

    def corrupt(self, path: str) -> None:
        """Serve the file as as many other bytes, under its true ETag."""
        self.corrupted.add(path)

    def heal(self) -> None:
        """Take back all faults, gates included."""
        self.faults: list[tuple[int, str, str]] = []
        self.cuts: list[tuple[str, int]] = []
        self.corrupted: set[str] = set()
        self.gated: set[str] = set()


class _Server(ThreadingHTTPServer):
    hub: Hub
    request_queue_size = 64  # all threads of a snapshot's download connect at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed in the middle of an answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        """Answer one request, then close: a connection kept open would outlive a stop of the server."""
        # Read in any case: closed with bytes unread, the socket is reset and the answer may be lost.
        self.sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub, self.url, self.range = self.server.hub, urlsplit(self.path), self.headers.get("Range", "")
        with self.hub.lock:
            status, body, headers = self._route(path := unquote(self.url.path))
            self.hub.requests.append(Request(self.command, path, self.range, status))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Leave the terminal alone: Hub.requests is the log."""

    def _route(self, path: str) -> Answer:
        try:
            for status, containing, method in self.hub.faults:
                if containing in path and method in ("", self.command):
                    self.hub.faults.remove((status, containing, method))
                    raise RefusedError(status, "", "as the test wished")
            for methods, pattern, act in ROUTES:
                if self.command in methods and (match := re.fullmatch(pattern, self.url.path)):
                    given = {name: unquote(value) for name, value in match.groupdict("").items()}
                    closed = self.command == "POST" or act == _Handler._agree or given.get("repo") in self.hub.private
                    if closed and "Authorization" not in self.headers:  # any token may do anything
                        raise RefusedError(
                            401, "RepoNotFound" if "repo" in given else "", "Invalid username or password."
                        )
                    return act(self, **given)
            raise RefusedError(404, "", f"The stand-in does not know {self.command} {self.path}")
        except RefusedError as refused:
            status, code, message = refused.args
            return _json({"error": message}, status, {"X-Error-Code": code, "Retry-After": "0"})

    def _agree(self, oid: str = "") -> Answer:
        return _json({"name": "tester", "type": "user", "auth": {"type": "access_token"}})  # whoami; else unread

    def _create(self) -> Answer:
        asked = json.loads(self.sent)
        repo = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        folder = {"dataset": "datasets/", "space": "spaces/"}.get(asked.get("type"), "")
        if folder == "spaces/" and not asked.get("sdk"):
            raise RefusedError(400, "", "A Space needs an SDK.")
        answer = {"url": f"{self.hub.url}/{folder}{repo}"}
        if repo in self.hub.repos:
            return _json(answer | {"error": "You already created this repo"}, 409)
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        self.hub.add(repo, {".gitattributes": attributes.encode()})  # as the Hub does
        self.hub.private |= {repo} if asked.get("visibility") == "private" else set()
        return _json(answer)

    def _info(self, repo: str, revision: str) -> Answer:
        commit, files = self.hub.find(repo, revision or "main")
        state = {"private": repo in self.hub.private, "gated": "auto" if repo in self.hub.gated else False}
        return _json({"id": repo, "sha": commit, **state, "siblings": [{"rfilename": path} for path in files]})

    def _check(self, repo: str) -> Answer:
        self.hub.find(repo)
        if repo in self.hub.gated:
            raise RefusedError(403, "GatedRepo", f"Access to {repo} is restricted.")
        return _json({})

    def _tree(self, repo: str, revision: str, folder: str) -> Answer:
        root, entries = PurePosixPath(folder), dict[PurePosixPath, dict[str, Any]]()
        for name, data in self.hub.files(repo, revision).items():
            path, size, tag = PurePosixPath(name), len(data), etag(name, data)
            for parent in path.parents:
                entries[parent] = {"type": "directory", "path": str(parent), "oid": "0" * 40, "size": 0}
            entries[path] = {"type": "file", "path": name, "oid": tag[:40], "size": size}
            entries[path] |= {"lfs": {"oid": tag, "size": size, "pointerSize": 130}} if is_large(name, size) else {}
        if root not in entries:
            raise RefusedError(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        depth = None if "recursive=true" in self.url.query else 1
        return _json([entries[path] for path in sorted(entries) if root in list(path.parents)[:depth]])

    def _preupload(self, repo: str, revision: str) -> Answer:
        tags = {path: etag(path, data) for path, data in self.hub.files(repo, revision).items()}
        files = json.loads(self.sent)["files"]
        for file in files:  # one that already has its tag, the client leaves out
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            file |= {"uploadMode": mode, "shouldIgnore": False, "oid": tags.get(file["path"])}
        return _json({"files": files})

    def _lfs_batch(self, repo: str) -> Answer:
        objects = json.loads(self.sent)["objects"]
        for wanted in objects:
            if wanted["oid"] not in self.hub.stored:
                href = f"{self.hub.url}/lfs/{wanted['oid']}"
                wanted["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        return _json({"transfer": "basic", "objects": objects})

    def _lfs_store(self, oid: str) -> Answer:
        if hashlib.sha256(self.sent).hexdigest() != oid:  # the client was killed in the middle of it
            raise RefusedError(400, "", "The bytes are not those of the digest.")
        self.hub.stored[oid] = self.sent
        return _json({})

    def _commit(self, repo: str, revision: str) -> Answer:
        parent, files = self.hub.find(repo, revision)
        for line in map(json.loads, self.sent.splitlines()):
            key, value = line["key"], line["value"]
            if value.get("parentCommit", parent) != parent:
                raise RefusedError(412, "", "A commit has happened since. Please refresh and try again.")
            if key in ("file", "lfsFile"):
                data = base64.b64decode(value["content"]) if key == "file" else self.hub.stored[value["oid"]]
                files[value["path"]] = data
            elif key in ("deletedFile", "deletedFolder"):
                gone = value["path"].rstrip("/")
                files = {path: data for path, data in files.items() if not f"{path}/".startswith(f"{gone}/")}
        commit = self.hub.add(repo, files, fresh=True)
        return _json({"commitOid": commit, "commitUrl": f"{self.hub.url}/datasets/{repo}/commit/{commit}"})

    def _variables(self, repo: str) -> Answer:
        kept = self.hub.variables.setdefault(self.hub.find(repo) and repo, {})
        if self.command == "POST":
            asked = json.loads(self.sent)
            kept[asked["key"]] = asked["value"]
        elif self.command == "DELETE":
            del kept[json.loads(self.sent)["key"]]
        return _json({name: {"key": name, "value": value} for name, value in kept.items()})

    def _resolve(self, repo: str, revision: str, path: str) -> Answer:
        commit, files = self.hub.find(repo, revision)
        if repo in self.hub.gated:  # only here: the Hub describes and lists a gated repository to everyone
            raise RefusedError(403, "GatedRepo", f"Access to dataset {repo} is restricted.")
        if path not in files:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        tag, size = f'"{etag(path, files[path])}"', len(files[path])
        data = files[path].translate(bytes(range(255, -1, -1))) if path in self.hub.corrupted else files[path]
        headers = {"X-Repo-Commit": commit, "ETag": tag, "Accept-Ranges": "bytes"}
        headers |= {"X-Linked-Etag": tag, "X-Linked-Size": str(size)} if is_large(path, size) else {}
        status, start, end = 200, 0, size
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.range):
            status, start, end = 206, int(asked[1]), min(int(asked[2] or size) + 1, size)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers["Content-Length"] = str(end - start)
        if self.command == "GET" and (cuts := [cut for cut in self.hub.cuts if cut[0] == path]):
            self.hub.cuts.remove(cuts[0])
            end = min(end, start + cuts[0][1])
        return status, data[start:end], headers


_API, _REVISION = r"/api/(?:datasets|models|spaces)/(?P<repo>[^/]+/[^/]+)", r"/(?P<revision>[^/]+)"
_GIT, _LFS = r"/(?:datasets/|spaces/)?(?P<repo>[^/]+/[^/]+)", r"/lfs/(?P<oid>[0-9a-f]{64})"
ROUTES = (
    ("GET POST", f"/api/whoami-v2|/api/validate-yaml|{_LFS}/verify", _Handler._agree),
    ("POST", "/api/repos/create", _Handler._create),
    ("GET", f"{_API}(?:/revision{_REVISION})?", _Handler._info),
    ("GET", f"{_API}/auth-check", _Handler._check),
    ("GET", f"{_API}/tree{_REVISION}(?:/(?P<folder>.+))?", _Handler._tree),
    ("POST", f"{_API}/preupload{_REVISION}", _Handler._preupload),
    ("POST", rf"{_GIT}\.git/info/lfs/objects/batch", _Handler._lfs_batch),
    ("PUT", _LFS, _Handler._lfs_store),  # without a token: on the Hub this is a signed address elsewhere
    ("POST", f"{_API}/commit{_REVISION}", _Handler._commit),
    ("GET POST DELETE", f"{_API}/variables", _Handler._variables),
    ("GET HEAD", f"{_GIT}/resolve{_REVISION}/(?P<path>.+)", _Handler._resolve),
)


def is_large(path: str, size: int) -> bool:
    """Whether the file goes to large file storage."""
    return size > 0 and (size >= LFS_SIZE or path.endswith(LFS_SUFFIXES))


def etag(path: str, data: bytes) -> str:
    """SHA-256 of a large file, git's SHA-1 of another."""
    large = is_large(path, len(data))
    return (hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0%b" % (len(data), data))).hexdigest()


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}


def serve() -> AbstractContextManager[Hub]:
    """A stand-in that answers until the block is left."""
    return closing(Hub())


@contextmanager
def in_place_of_the_hub(cache: Path) -> Iterator[Hub]:
    """A running stand-in that the Hub's client, here and in processes started from here, takes for the Hub."""
    with serve() as standin, pytest.MonkeyPatch.context() as patch:
        folder, nap = str(cache), SimpleNamespace(sleep=lambda seconds: None)
        known = {"HF_ENDPOINT": standin.url, "HF_HUB_CACHE": folder, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        for name, value in {**known, "HF_TOKEN": "hf_dummy", "NO_PROXY": "127.0.0.1"}.items():
            patch.setenv(name, value)
        client = {  # which read its environment when it was imported
            "constants.ENDPOINT": standin.url,
            "constants.HUGGINGFACE_CO_URL_TEMPLATE": standin.url + "/{repo_id}/resolve/{revision}/{filename}",
            "constants.HF_HUB_CACHE": folder,
            "constants.HF_HUB_OFFLINE": False,
            "constants.HF_HUB_DISABLE_XET": True,  # else it uploads by hf_xet, whatever the Hub answers
            "constants.DOWNLOAD_CHUNK_SIZE": 16_384,  # of its 10 MB, what has come of one is lost with the connection
            "hf_api.api.endpoint": standin.url,  # behind create_repo and the other functions
            "utils._detect_agent._registry": {"harnesses": {}},  # otherwise asked of the Hub once a process
            "utils._http.time": nap,  # time is there for the pauses between tries only
            "file_download.time": nap,
        }
        for name, constant in client.items():
            patch.setattr(f"huggingface_hub.{name}", constant)
        close_session()
        yield standin


@pytest.fixture
def hub(tmp_path):
    """A stand-in in the place of the Hub."""
    with in_place_of_the_hub(tmp_path / "cache") as standin:
        yield standin
