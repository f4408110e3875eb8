"""Knows which arms exist, what they can do and who is alive."""
