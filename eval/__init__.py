"""Experiments, data sets, metrics and benchmarks that measure foir."""
