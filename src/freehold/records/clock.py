"""The time of day as records hold it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """Return the present in UTC to the microsecond, as ``2026-01-31T12:00:00.000000Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
