"""What the papers' tables need, and what of it is here: data, weights, disk, memory, time."""
