"""The `foir` command."""
