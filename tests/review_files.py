"""Small files of items and reviews for the tests of reviewing."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

ON_SQLITE = pytest.mark.parametrize("lab_url", [""])  # nothing here turns on the database
OPTIONS = ("refund", "card", "loan")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows to a CSV file and return its path."""
    listed = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    return path


def texts(n: int, split: str = "train") -> list[dict[str, str]]:
    """Return `n` rows of items in one split."""
    return [
        {"id": f"{split}{k}", "text": f"message number {k} of {split}", "split": split}
        for k in range(n)
    ]
