"""Keeping an index up to date while its folder changes, until the process is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from foir.errors import BadIndex, FoirError, Unavailable, os_errors
from foir.index import Index

from .changes import UpdateResult
from .encoding import SpaceEncoders, load_index_encoders
from .sources.folder import INDEXED_SUFFIXES
from .update import update

QUIET, PATIENCE = 0.7, 3.0  # seconds without a change before an update, and the longest wait for them
TRY_AGAIN = 10.0  # seconds after an update that could not be made
LOOK_AGAIN = 600.0  # seconds between two updates where the system reports no change, as on some network disks


class _Changes(FileSystemEventHandler):
    """Says when something changed that an index could hold."""

    def __init__(self, out: Path) -> None:
        self.out, self.changed = out.resolve(), Event()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note a change of an image or of a folder; reading one is none."""
        if event.event_type in ("opened", "closed_no_write") or (event.is_directory and event.event_type == "modified"):
            return
        paths = [Path(str(path)) for path in (event.src_path, event.dest_path) if path]
        own = [path for path in paths if path != self.out and self.out not in path.parents]
        if any(event.is_directory or path.suffix.lower() in INDEXED_SUFFIXES for path in own):
            self.changed.set()


def watch(
    out: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    report: Callable[[UpdateResult], None],
    report_error: Callable[[FoirError], None],
    stop: Event | None = None,
) -> None:
    """Update an index whenever its folder changes; its models stay loaded.

    Args:
        out: The index.
        device: Where the encoders run.
        dtype: In which they compute.
        report: Called after each update, the first one at once.
        report_error: Called where one cannot be made, such as when the disk is gone; the next change tries again.
        stop: Ends the watch when it is set.

    Raises:
        BadIndex: The index is damaged, or its encoder gives other features now.
        Unavailable: Its folder is not known or does not exist, or cannot be watched.
    """
    index = Index.open(out)
    if index.root is None or not index.root.is_dir():
        raise Unavailable(f"The folder of the index {out} is not known or not there: `foir index update` says why.")
    encoders: SpaceEncoders | None = load_index_encoders(index, device=device, dtype=dtype)
    changes, stop = _Changes(out), stop or Event()
    observer = Observer()
    with os_errors(f"The folder {index.root} cannot be watched"):
        observer.schedule(changes, str(index.root), recursive=True)
        observer.start()
    try:
        while not stop.is_set():
            changes.changed.clear()
            patience = LOOK_AGAIN
            try:
                encoders = encoders or load_index_encoders(Index.open(out), device=device, dtype=dtype)
                report(update(out, encoders=encoders))
            except FoirError as error:
                report_error(error)
                patience = TRY_AGAIN
                if isinstance(error, BadIndex):  # perhaps it was built again, with others
                    encoders = None
            _wait(changes.changed, stop, patience)
    finally:
        observer.stop()
        observer.join()


def _wait(changed: Event, stop: Event, seconds: float) -> None:
    """Wait for a change, and then until no more come for a moment: a copy in progress is not read."""
    end = time.monotonic() + seconds
    while not changed.wait(0.2) and not stop.is_set() and time.monotonic() < end:
        pass
    end = time.monotonic() + PATIENCE
    while changed.is_set() and not stop.is_set() and time.monotonic() < end:
        changed.clear()
        time.sleep(QUIET)
