"""Retrieval metrics and their bootstrap intervals."""
