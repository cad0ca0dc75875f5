"""Region vectors: several vectors of parts of a picture, so that a thing is found among everything else on it.

A way turns areas of a picture into vectors; it is a file in `foir.regions.ways` with one function under `@region_way`.
Pictures and queries go through the same way: `foir.regions.recipe` says which, and an index stores it.
"""
