"""Errors that a caller may see; each message says in one sentence what is wrong and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class FoirError(Exception):
    """Base class of every error that foir raises on purpose."""


class BadImage(FoirError):
    """An image cannot be read: damaged, too large, or no image at all."""


class BadPrompt(FoirError):
    """A point, box, stroke, mask, option or argument does not fit the image, the model or its type."""


class BadIndex(FoirError):
    """An index is damaged, incomplete, or of another encoder or format."""


class Unavailable(FoirError):
    """Something outside foir is missing: weights, a data set, the network, an optional package, room on a disk."""


_SPACE = "free some space, then run it again"
_ACCESS = "change the permissions, or use another folder"
_REASONS = {  # of errors that a user can do something about
    errno.ENOSPC: ("the disk is full", _SPACE),
    errno.EDQUOT: ("the disk quota is used up", _SPACE),
    errno.EACCES: ("permission is denied", _ACCESS),
    errno.EPERM: ("permission is denied", _ACCESS),
    errno.EROFS: ("the file system is read-only", "use another folder"),
}


def is_disk_error(error: OSError) -> bool:
    """Whether a disk is full or read-only, or permission was denied."""
    return error.errno in _REASONS


def describe_os_error(failure: str, error: OSError) -> str:
    """One sentence about a failed call of the operating system.

    Args:
        failure: What failed ("The index x cannot be written").
        error: Why.
    """
    if not is_disk_error(error):
        return f"{failure}: {error.strerror or error}."
    reason, remedy = _REASONS[error.errno or 0]
    where = f" for {error.filename}" if remedy == _ACCESS and str(error.filename or "") not in failure else ""
    return f"{failure}, since {reason}{where}: {remedy}."


@contextmanager
def os_errors(failure: str) -> Iterator[None]:
    """Turn errors of the operating system into one sentence; see `describe_os_error`.

    Raises:
        Unavailable: In place of every such error.
    """
    try:
        yield
    except OSError as error:
        raise Unavailable(describe_os_error(failure, error)) from error
