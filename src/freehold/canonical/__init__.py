"""Canonical JSON, tagged hashes, Merkle arithmetic: pure functions that every record stands on."""
