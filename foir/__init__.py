"""foir: search that looks where you point."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from foir.errors import BadImage, BadIndex, BadPrompt, FoirError, Unavailable

if TYPE_CHECKING:
    from foir.images import Photo
    from foir.index import Index, Item
    from foir.prompts import Prompt, Stroke
    from foir.search.query import Feedback, Query
    from foir.search.results import QueryImage, SearchResults
    from foir.search.searcher import Searcher

_LAZY = {
    "Feedback": "search.query",
    "Index": "index",
    "Item": "index",
    "Photo": "images",
    "Prompt": "prompts",
    "Query": "search.query",
    "QueryImage": "search.results",
    "SearchResults": "search.results",
    "Searcher": "search.searcher",
    "Stroke": "prompts",
}


def __getattr__(name: str) -> Any:  # PEP 562: `import foir` stays instant, torch comes with the first Searcher
    if name not in _LAZY:
        raise AttributeError(f"module 'foir' has no attribute {name!r}")
    return getattr(importlib.import_module(f"foir.{_LAZY[name]}"), name)


__all__ = [
    "BadImage",
    "BadIndex",
    "BadPrompt",
    "Feedback",
    "FoirError",
    "Index",
    "Item",
    "Photo",
    "Prompt",
    "Query",
    "QueryImage",
    "SearchResults",
    "Searcher",
    "Stroke",
    "Unavailable",
]
