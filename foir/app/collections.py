"""The collections of a page: each is opened on first use, and the most recently used ones stay open."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from cachetools import LRUCache

from foir.app.controller import Controller
from foir.app.jobs import IndexingJob, move_to_trash
from foir.app.opening import Opening, read_opening
from foir.app.session_store import SessionStore
from foir.app.sessions import Session
from foir.app.watches import Watches
from foir.errors import BadPrompt, FoirError
from foir.index import Index
from foir.index.remote import local_folder

MAX_OPEN = 4  # collections with their models in memory; those given at the start all stay open
SAMPLE = Path(__file__).parents[1] / "assets" / "playroom"


class Collections:
    """Collections by key, and the sessions of their users. Thread-safe."""

    def __init__(
        self, addresses: Sequence[str | Path], open_collection: Callable[..., Controller], *, can_add: bool = False
    ) -> None:
        """Register the collections; none is opened yet.

        Args:
            addresses: Folders, or addresses on the Hub; the first is the default.
            open_collection: Opens an address as the collection of a key; for one that changed, it gets the models of
                its earlier state too (`Controller.models`).
            can_add: Whether users may add collections: only on localhost.
        """
        self._open, self.can_add = open_collection, can_add
        self._known: dict[str, tuple[str, str | Path]] = {}
        self._controllers: LRUCache[str, Controller] = LRUCache(max(MAX_OPEN, len(addresses)))
        self._lock, self._opening, self._starting = Lock(), Lock(), Lock()
        self.sessions = SessionStore()
        self.job: IndexingJob | None = None
        self.watches = Watches(self._reopen)
        self.default_key = [self.add(address) for address in addresses][0]

    def add(self, address: str | Path, title: str | None = None) -> str:
        """Register a collection, or reopen one that may have changed; returns its key."""
        key = _key(address)
        with self._lock:
            self._known[key] = (title or _title(address, local_folder(address)), address)
            self._controllers.pop(key, None)
        return key

    def choices(self) -> list[tuple[str, str]]:
        """Titles and keys."""
        with self._lock:
            return [(title, key) for key, (title, _) in self._known.items()]

    def controller(self, key: str | None = None) -> Controller:
        """Return the controller of a collection, of the default one if no key is given.

        Raises:
            BadPrompt: There is no such collection.
            BadIndex: See `Index.open`.
            Unavailable: See `Index.open`.
        """
        key = key or self.default_key
        controller = self._cached(key)
        if controller is not None:
            return controller
        with self._opening:
            controller = self._cached(key)
            if controller is None:
                controller = self._open(self._known[key][1], key)
                with self._lock:
                    self._controllers[key] = controller
        return controller

    def watch(self, key: str, on: bool) -> None:
        """Keep a collection up to date with its folder, or stop that.

        Raises:
            BadPrompt: That is not allowed, or the collection follows no folder.
        """
        index = self.controller(key).index
        if not self.can_add or not isinstance(index, Index) or index.root is None:
            raise BadPrompt("Only collections of folders on this computer can be kept up to date.")
        if on:
            self.watches.start(key, index.folder.resolve())
        else:
            self.watches.stop(key)

    def discard(self, key: str, shown: Any, ids: Any) -> None:
        """Move the files of duplicates to the trash, and bring the index up to date by a job, or by its watch.

        Args:
            key: Key of the collection.
            shown: Key of the collection whose duplicates are shown.
            ids: Images that a group shows beside its best.

        Raises:
            BadPrompt: That is not allowed, or an image is no such duplicate.
            Unavailable: A file cannot be moved to the trash.
        """
        controller = self.controller(key)
        index = controller.index
        if not controller.views.serves_files or not isinstance(index, Index):
            raise BadPrompt("Files can be moved to the trash only where the page runs on your own computer.")
        if shown != key:
            raise BadPrompt("These are the duplicates of another collection: open them again.")
        with self._starting:
            if self.job is not None and self.job.running:
                raise BadPrompt("The last change is still being made: try again in a moment.")
            files = controller.views.spare_files(ids)
            try:
                for file in files:
                    move_to_trash(file)
            finally:  # also where one could not be moved
                if not self.watches.watches(key):
                    title, address = self._known[key]
                    update = ["update", str(index.folder.resolve())]
                    self.job = IndexingJob(title, address, update, self._updated, "Moved to the trash.")

    def _updated(self, address: str | Path, title: str) -> str:
        """Open the present state of a collection that a job brought up to date; returns its key."""
        key = _key(address)
        self._reopen(key)
        return key

    def _reopen(self, key: str) -> None:
        """Open the present state of a collection; the earlier one stays where that is not possible."""
        previous = self._cached(key)
        if previous is not None:
            with self._opening, suppress(FoirError):
                controller = self._open(self._known[key][1], key, previous.models)
                with self._lock:
                    self._controllers[key] = controller

    def opening(self) -> Opening | None:
        """What the page shows while the model loads; known for the sample only."""
        folder = local_folder(self._known[self.default_key][1])
        return read_opening(SAMPLE, self.default_key) if folder.resolve() == SAMPLE.resolve() else None

    def _cached(self, key: str) -> Controller | None:
        with self._lock:
            if key not in self._known:
                raise BadPrompt("There is no such collection here.")
            return self._controllers.get(key)

    def resume(self, token: str | None) -> tuple[Controller, Session]:
        """Return a user's session and the controller of its collection.

        Raises:
            FoirError: The session expired, or its collection can no longer be opened.
        """
        session = self.sessions.get(token)
        controller = self.controller(session.collection)
        return controller, session.within(controller.index)

    def start_job(self, source: str, encoder: str, *, tiles: bool) -> IndexingJob:
        """Index a folder, or download an index from the Hub.

        Args:
            source: The folder, or `hf://datasets/USER/NAME[@REVISION]`.
            encoder: Name of the encoder for the images of a folder.
            tiles: Make regions of the images' tiles too, which finds smaller things.

        Raises:
            BadPrompt: Adding is not allowed, another job runs, or the source is neither.
        """
        if not self.can_add:
            raise BadPrompt("Collections can be added only on localhost.")
        with self._starting:
            if self.job is not None and self.job.running:
                raise BadPrompt("Another collection is being added: wait for it, or stop it.")
            self.job = IndexingJob.start(source, encoder, tiles=tiles, on_success=self.add)
            return self.job


def _key(address: str | Path) -> str:
    return hashlib.sha256(str(local_folder(address).resolve()).encode()).hexdigest()[:12]


def _title(address: str | Path, folder: Path) -> str:
    if folder.resolve() == SAMPLE.resolve():
        return "Sample"
    return str(address).removeprefix("hf://datasets/") if str(address).startswith("hf:") else folder.resolve().name
