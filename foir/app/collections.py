"""The collections that a page can look in: each opened when it is first chosen, the last few kept open."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from foir.app.controller import Controller
from foir.app.jobs import IndexingJob
from foir.app.session_store import SessionStore
from foir.app.sessions import Session
from foir.errors import BadPrompt
from foir.index.remote import local_folder

MAX_OPEN = 4  # collections with their models in memory; all that were named at first stay open
SAMPLE = Path(__file__).parents[1] / "assets" / "playroom"


class Collections:
    """Collections by key, and who looks at what. Safe to share between threads."""

    def __init__(
        self, addresses: Sequence[str | Path], page: Callable[[str | Path, str], Controller], *, grows: bool = False
    ) -> None:
        """Name the collections; none is opened yet.

        Args:
            addresses: Folders, or addresses on the Hub; the first is what a visitor sees first.
            page: Opens the page of an address, which has a key.
            grows: Whether visitors may add collections: only where they are this machine's own user.
        """
        self._open, self.can_add = page, grows
        self._known: dict[str, tuple[str, str | Path]] = {}
        self._pages: OrderedDict[str, Controller] = OrderedDict()
        self._lock, self._opening, self._sending = Lock(), Lock(), Lock()
        self._most = max(MAX_OPEN, len(addresses))
        self.sessions = SessionStore()
        self.job: IndexingJob | None = None
        self.default_key = [self.add(address) for address in addresses][0]

    def add(self, address: str | Path, title: str | None = None) -> str:
        """Name one more collection, or open one anew that may have changed; returns its key."""
        folder = local_folder(address)
        key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        with self._lock:
            self._known[key] = (title or _title(address, folder), address)
            self._pages.pop(key, None)
        return key

    def choices(self) -> list[tuple[str, str]]:
        """Titles and keys."""
        with self._lock:
            return [(title, key) for key, (title, _) in self._known.items()]

    def controller(self, key: str | None = None) -> Controller:
        """A collection's page, the first one's if none is named.

        Raises:
            BadPrompt: There is no such collection.
            BadIndex: See `Index.open`.
            Unavailable: See `Index.open`.
        """
        key = key or self.default_key
        page = self._kept(key)
        if page is not None:
            return page
        with self._opening:
            page = self._kept(key)
            if page is None:
                page = self._open(self._known[key][1], key)
                with self._lock:
                    self._pages[key] = page
                    while len(self._pages) > self._most:
                        self._pages.popitem(last=False)
        return page

    def _kept(self, key: str) -> Controller | None:
        with self._lock:
            if key not in self._known:
                raise BadPrompt("There is no such collection here.")
            page = self._pages.get(key)
            if page is not None:
                self._pages.move_to_end(key)
            return page

    def resume(self, token: str | None) -> tuple[Controller, Session]:
        """What a visitor looks at, and the page of its collection.

        Raises:
            FoirError: It was forgotten, or its collection cannot be opened any more.
        """
        session = self.sessions.get(token)
        return self.controller(session.collection), session

    def start_job(self, said: str, encoder: str, *, small: bool) -> IndexingJob:
        """Have a folder indexed, or an index fetched from the Hub.

        Args:
            said: The folder, or `hf://datasets/USER/NAME[@REVISION]`.
            encoder: What a folder's pictures are seen by.
            small: Keep what finds small things too.

        Raises:
            BadPrompt: Visitors may not, something is still under way, or it names neither.
        """
        if not self.can_add:
            raise BadPrompt("Collections are added on the machine that serves the page.")
        with self._sending:
            if self.job is not None and self.job.running:
                raise BadPrompt("One collection at a time: wait for it, or stop it.")
            self.job = IndexingJob.start(said, encoder, small=small, arrived=self.add)
            return self.job


def _title(address: str | Path, folder: Path) -> str:
    if folder.resolve() == SAMPLE.resolve():
        return "Sample"
    return str(address).removeprefix("hf://datasets/") if str(address).startswith("hf:") else folder.resolve().name
