"""An index on disk: read it with `Index.open`, write it with `foir.index.writer`."""

from foir.index.records import Item, Object, Space
from foir.index.store import Index

__all__ = ["Index", "Item", "Object", "Space"]
