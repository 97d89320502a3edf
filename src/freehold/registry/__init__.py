"""Candidates, verdicts, releases, rollback."""
