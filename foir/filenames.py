"""File names that every system can have."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$')  # on Windows; a slash also elsewhere
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def safe_name(text: str) -> str:
    """A file name for a text; characters that Windows forbids become "_", device names get a leading "_"."""
    name = _FORBIDDEN.sub("_", text) or "_"
    return f"_{name}" if _RESERVED.match(name) else name
