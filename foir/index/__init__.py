"""An index on disk: read it with `Index.open`, write it with `foir.index.writer`."""

from foir.index.reader import Index
from foir.index.records import Item, Object, Regions, Space

__all__ = ["Index", "Item", "Object", "Regions", "Space"]
