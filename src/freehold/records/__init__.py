"""Frozen records and output spaces: what rooms hand to each other."""
