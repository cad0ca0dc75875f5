"""Something that a table needs and this machine lacks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """Something that is missing.

    Attributes:
        kind: "data", "weights", "detector", "adapter", "GPU memory" or "disk".
        what: Names it.
        source: The page or the command that gets it, in one sentence.
        rows: The rows of a table that need it; all where it is empty.
    """

    kind: str
    what: str
    source: str
    rows: str = ""
