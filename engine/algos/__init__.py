"""Algorithms that work parent orders: one file each for what they decide, `parent` for what they share."""
