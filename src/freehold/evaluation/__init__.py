"""Suites, results per case, paired statistics and the gate."""
