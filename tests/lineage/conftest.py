"""One lab with a whole history, for all tests that only read; whoever writes makes a copy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from freehold.evidence.founding import found_lab
from lab_history import History, tell_history


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A lab whose history `tell_history` made."""
    folder = tmp_path_factory.mktemp("history")
    with found_lab(folder / "lab") as lab:
        yield tell_history(lab, folder)
