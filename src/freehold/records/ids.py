"""Identifiers of records: random, sortable by time of making, never derived from content."""

from __future__ import annotations

import secrets
import time


def new_id(prefix: str) -> str:
    """Return ``prefix_`` and 26 hex digits: 48 bits of milliseconds, then 56 random bits.

    Sortable like UUID version 7 (RFC 9562), so that indexes grow at one end. An id is random, never
    a hash: it must say nothing about a person once the row behind it has been erased.
    """
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{milliseconds:012x}{secrets.token_hex(7)}"
