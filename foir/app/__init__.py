"""The page without its layout: what a visitor's steps do, what its parts show, what programs ask, how it is served."""

from foir.app.collections import Collections
from foir.app.controller import Controller

__all__ = ["Collections", "Controller"]
