"""What foir survives, as figures; docs/reliability.md prints them."""
