"""The page without its layout: what a visitor's steps do, what its parts show, what programs ask, how it is served."""

from foir.app.collections import Library
from foir.app.controller import Page

__all__ = ["Library", "Page"]
