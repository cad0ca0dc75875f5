"""An index on disk: read it with `Index.open`, write it with `foir.index.writer`."""

from foir.index.store import Index, Item, Object, Space

__all__ = ["Index", "Item", "Object", "Space"]
