"""Freehold: own your AI model instead of renting one.

The Python API is the rooms' own functions, each taking an open lab first::

    import freehold

    with freehold.open_lab("my-lab") as lab:
        ...

`found_lab` makes a lab, `open_lab` opens one; see docs/reference for what the rooms offer.
Importing this package loads no database, no numbers and no models, and opens no socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold.version import __version__

if TYPE_CHECKING:
    from freehold.evidence.founding import found_lab
    from freehold.lab import Lab, open_lab

__all__ = ["Lab", "__version__", "found_lab", "open_lab"]


def __getattr__(name: str) -> Any:
    """Load the lab when it is first asked for: the import of the package stays free of it."""
    if name == "found_lab":
        from freehold.evidence.founding import found_lab

        return found_lab
    if name in ("Lab", "open_lab"):
        from freehold import lab

        return getattr(lab, name)
    raise AttributeError(f"module 'freehold' has no attribute {name!r}")
