"""Builds and maintains the indexes that foir searches."""
