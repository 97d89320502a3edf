"""Makes the small disk and a tiny base model known to the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_disks import small_disk
from training_samples import build_bert

__all__ = ["bert", "small_disk"]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one layer."""
    return build_bert(tmp_path_factory.mktemp("bert"))
