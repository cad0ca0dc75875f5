"""The page without its layout: what a visitor's steps do, what its parts show, what programs ask, how it is served."""

from foir.page.library import Library
from foir.page.steps import Page

__all__ = ["Library", "Page"]
