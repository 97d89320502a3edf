"""A labelled file in a lab of either kind, for the tests of datasets and suites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from datasets_in_labs import Fill, fill_lab
from freehold.lab import Lab


@pytest.fixture
def fill(lab: Lab, tmp_path: Path) -> Fill:
    """Fill a lab on either kind of database; see `fill_lab`."""

    def filled(rows: Iterable[Mapping[str, str]], **options: object) -> str:
        return fill_lab(lab, tmp_path / "labels.csv", rows, **options)  # type: ignore[arg-type]

    return filled
