"""Writing tables: whole or not at all, what is read back is what was written, no formulas."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.errors import InputError, ReadOnlyLab
from freehold.tabular import Row, open_table, write_table
from freehold.tabular.guarding import guard, unguard

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
AWKWARD = [
    "=1+1", "+49 30 1234", "-5", "-5 EUR", "@SUM(A1)", "'=1+1", "''-x", "\t=1", "\r=1", "＝1",
    "a\nb", "a\r\nb", "a\rb", 'say "hi"', "a;b,c|d\te", " leading", "trailing ", "_x000D_",
    "_x005F_x000D_", "#N/A", "true", "007", "1e5", "2026-01-02", "\x01\x1f", "\ufeffmark", "ä😀",
    '=HYPERLINK("http://127.0.0.1/?"&A1,"click")', "=cmd|' /C calc'!A0",
]  # fmt: skip


def read_back(path: Path, **how: Any) -> list[dict[str, Any]]:
    return [row.values for row in open_table(path, strict=True, **how) if isinstance(row, Row)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "xlsx"])
@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_read_back_unchanged(tmp_path: Path, kind: str, text: str) -> None:
    """Also as the name of a column; in CSV the guard is taken off again."""
    path = tmp_path / f"work.{kind}"
    name = text.strip().strip("\ufeff").strip() or "text"
    assert write_table(path, [{name: text, "label": "a"}], [name, "label"]) == 1
    guarded = {"guarded": True} if kind == "csv" else {}
    assert read_back(path, **guarded) == [{name: text, "label": "a"}]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "xlsx"])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
    database=None,
)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_any_texts_read_back_unchanged(tmp_path: Path, kind: str, rows: list[Any]) -> None:
    """Whatever people wrote. In XLSX an empty text is an empty cell, as the docstring says."""
    path = tmp_path / f"work.{kind}"
    values = [{"id": f"r{n}", "a": a, "b": b} for n, (a, b) in enumerate(rows)]
    write_table(path, values, ["id", "a", "b"])
    if kind == "xlsx":
        values = [{name: text or None for name, text in row.items()} for row in values]
    guarded = {"guarded": True} if kind == "csv" else {}
    assert read_back(path, **guarded) == values


@pytest.mark.parametrize("text", AWKWARD)
def test_guarding_can_be_undone(text: str) -> None:
    """The law of the guard, also for what was guarded already."""
    assert unguard(guard(text)) == text
    assert unguard(unguard(guard(guard(text)))) == text


def test_types_are_kept(tmp_path: Path) -> None:
    """Numbers stay numbers where the format has them; in CSV all is text."""
    row = {"n": -3, "x": 0.1, "yes": True, "none": None}
    for kind in ("jsonl", "parquet", "xlsx"):
        write_table(tmp_path / f"work.{kind}", [row], list(row))
        assert read_back(tmp_path / f"work.{kind}") == [row]
    write_table(tmp_path / "work.csv", [row], list(row))
    assert read_back(tmp_path / "work.csv") == [{"n": "-3", "x": "0.1", "yes": "true", "none": ""}]


def test_no_spreadsheet_program_sees_a_formula(tmp_path: Path) -> None:
    """CSV cells do not begin with a sign; XLSX cells are typed as text and hold no formula."""
    rows = [{"text": text} for text in AWKWARD]
    write_table(tmp_path / "work.csv", rows, ["text"])
    with (tmp_path / "work.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert [cell for cell in cells if cell[:1] in "=+-@\t\r＝" and cell != "-5"] == []
    write_table(tmp_path / "work.xlsx", rows, ["text"])
    with zipfile.ZipFile(tmp_path / "work.xlsx") as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")
    sheet = openpyxl.load_workbook(tmp_path / "work.xlsx")["rows"]
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} == {"s"}


REFUSED = [
    ("xlsx", "x" * 32_768, "row 1: 32,768 characters; a cell of a workbook holds 32,767"),
    ("csv", ["a"], "row 1, column 'text': list has no place in a cell"),
    ("parquet", {"a": 1}, "row 1, column 'text': dict has no place in a cell"),
    ("csv", "a\0b", "row 1, column 'text': holds a NUL"),
    ("jsonl", "\ud800", "row 1, column 'text': holds half of a surrogate pair"),
    ("jsonl", float("nan"), "row 1 cannot be written as JSON"),
]


@pytest.mark.parametrize(("kind", "value", "message"), REFUSED)
def test_what_a_format_cannot_hold_is_refused(
    tmp_path: Path, kind: str, value: Any, message: str
) -> None:
    """Never cut or altered; the file that was there before is still there, and nothing else."""
    path = tmp_path / f"work.{kind}"
    path.write_text("before")
    with pytest.raises(InputError, match=message):
        write_table(path, [{"text": value}], ["text"])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


def test_parquet_columns_have_one_type(tmp_path: Path) -> None:
    """A column that mixes text and numbers is named."""
    rows = [{"a": 1}, {"a": "x"}]
    with pytest.raises(InputError, match="column 'a' mixes kinds of values"):
        write_table(tmp_path / "work.parquet", rows, ["a"])


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    """The rows may come from a long computation that fails half-way."""
    path = tmp_path / "work.csv"
    write_table(path, [{"a": "old"}], ["a"])

    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": "new"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(path, rows(), ["a"])
    assert read_back(path) == [{"a": "old"}]
    assert len(list(tmp_path.iterdir())) == 1


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    """No folder, no format, no permission: each says so."""
    with pytest.raises(InputError, match="no folder"):
        write_table(tmp_path / "none" / "work.csv", [], ["a"])
    with pytest.raises(InputError, match="cannot tell which format"):
        write_table(tmp_path / "work.xyz", [], ["a"])
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(ReadOnlyLab, match="may not be written"):
            write_table(tmp_path / "work.csv", [], ["a"])


_MEASURE = """
import resource, sys
from pathlib import Path
from freehold.tabular import open_table, write_table
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
path = Path(sys.argv[1])
if path.suffix == ".parquet": import pyarrow.parquet
before = peak()
print(sum(1 for row in open_table(path, strict=True)), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "xlsx"])
def test_200_000_rows_in_little_memory(tmp_path: Path, kind: str) -> None:
    """100 MB of rows are read with a small part of that in memory, whatever the format."""
    path = tmp_path / f"work.{kind}"
    text = "My card was charged twice and nobody answers the phone. " * 9
    rows = ({"id": str(n), "text": f"{n} {text}", "label": f"c{n % 7}"} for n in range(200_000))
    write_table(path, rows, ["id", "text", "label"])
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    count, mebibytes = map(int, done.stdout.split())
    assert count == 200_000
    assert mebibytes < 60
