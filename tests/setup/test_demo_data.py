"""The synthetic demo set is what its script makes, and is what it says it is."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

from freehold.tabular import SYNONYMS, Row, find_columns, open_table

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "src/freehold/experiments/data/support_requests.csv"
SCRIPT = ROOT / "examples/make_support_requests.py"


def test_the_script_makes_these_bytes(tmp_path: Path) -> None:
    """Nobody has to believe that the data is synthetic: it can be made again."""
    runpy.run_path(str(SCRIPT))["write"](tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == DATA.read_bytes()


def test_it_is_what_the_readme_says() -> None:
    """900 and 400 rows, eight labels, no text twice, no customer on both sides."""
    rows = [row.values for row in open_table(DATA, strict=True) if isinstance(row, Row)]
    assert Counter(row["split"] for row in rows) == {"train": 900, "test": 400}
    assert len({row["label"] for row in rows}) == 8
    assert {row["incumbent"] for row in rows} == {row["label"] for row in rows}
    assert len({row["text"].lower() for row in rows}) == len({row["id"] for row in rows}) == 1300
    customers = {s: {r["entity"] for r in rows if r["split"] == s} for s in ("train", "test")}
    assert not customers["train"] & customers["test"]
    right = sum(row["label"] == row["incumbent"] for row in rows) / len(rows)
    assert 0.75 < right < 0.85


def test_its_columns_need_no_naming() -> None:
    """The demo finds its own columns like anybody's."""
    columns = find_columns(open_table(DATA), SYNONYMS)
    assert {role: columns[role] for role in SYNONYMS} == {role: role for role in SYNONYMS}
