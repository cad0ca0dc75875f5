"""Fuzz targets: short in the suite, as long as FOIR_FUZZ_SECONDS by hand."""
