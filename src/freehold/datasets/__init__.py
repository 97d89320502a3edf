"""Frozen lists of labelled rows with lineage, and the frozen cases of suites."""
