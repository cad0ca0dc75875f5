"""Measurements of docs/reliability.md: each module has `measure()`, which returns one line."""
