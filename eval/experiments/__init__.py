"""Every experiment: its data and its runner."""
