"""A desk on SQLite, and one on either kind of database."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.lab import Lab
from registry_desk import Desk, make_desk


@pytest.fixture
def desk(sqlite_lab: Lab, tmp_path: Path) -> Desk:
    """A lab with a suite, an engineer who trains and an approver who signs."""
    return make_desk(sqlite_lab, tmp_path)


@pytest.fixture
def either_desk(lab: Lab, tmp_path: Path) -> Desk:
    """The same on either kind of database."""
    return make_desk(lab, tmp_path)
