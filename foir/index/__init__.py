"""An index on disk: read it with `Index.open`, write it with `foir.index.writer`."""

from foir.index.reader import Index
from foir.index.records import OBJECTS, Item, Object, Space

__all__ = ["OBJECTS", "Index", "Item", "Object", "Space"]
