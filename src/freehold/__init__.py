"""Freehold: own your AI model instead of renting one."""

from __future__ import annotations

__version__ = "0.1.0"
