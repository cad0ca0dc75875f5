"""What things cost: benchmarks that print ratios of one run."""
