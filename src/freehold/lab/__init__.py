"""One directory: layout, settings, database, stores, migrations, doctor."""

from __future__ import annotations

from freehold.lab.opened import Lab, init_lab, open_lab, require_writable

__all__ = ["Lab", "init_lab", "open_lab", "require_writable"]
