"""The version of Freehold, as records and backups name it."""

from __future__ import annotations

__version__ = "0.1.0"
