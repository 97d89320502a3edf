"""Makes the small disk known to the tests of this folder."""

from __future__ import annotations

from small_disks import small_disk

__all__ = ["small_disk"]
