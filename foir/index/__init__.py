"""An index on disk: read it with `Index.open`, write it with `foir.index.writer`."""

from foir.index.records import OBJECTS, Item, Object, Space
from foir.index.store import Index

__all__ = ["OBJECTS", "Index", "Item", "Object", "Space"]
