"""Reading tables: what is good comes through unchanged, what is bad is named and costs one row."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from freehold.errors import InputError, NotFound, RowError
from freehold.tabular import BadRow, Row, Table, open_table

Make = Callable[[str, bytes], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def _naive(*clock: int) -> datetime:
    """A time as spreadsheets have it: of no zone."""
    return datetime(2026, 1, 2, *clock, tzinfo=UTC).replace(tzinfo=None)


def good(table: Table) -> list[tuple[int, dict[str, Any]]]:
    return [(row.line, row.values) for row in table if isinstance(row, Row)]


def bad(table: Table) -> list[tuple[int, str | None, str]]:
    return [(row.line, row.field, row.reason) for row in table if isinstance(row, BadRow)]


# What is read, format by format.


@pytest.mark.parametrize(
    "content",
    [
        b"text,label\nhello,a\nworld,b\n",
        b"text;label\nhello;a\nworld;b\n",
        b"text\tlabel\nhello\ta\nworld\tb\n",
        b"text|label\nhello|a\nworld|b",
        b"text,label\r\nhello,a\r\nworld,b\r\n",
        b"\xef\xbb\xbftext,label\nhello,a\nworld,b\n",
        "text;label\nhello;a\nworld;b\n".encode("utf-16"),
        "text,label\nhello,a\nworld,b\n".encode("utf-32"),
        b'"text","label"\n"hello","a"\n"world","b"\n',
        b"text,label\n\nhello,a\n\n\nworld,b\n\n",
    ],
    ids=["comma", "semicolon", "tab", "bar", "crlf", "bom", "utf-16", "utf-32", "quoted", "blank"],
)
def test_csv_dialects_are_found(make: Make, content: bytes) -> None:
    """The delimiter, the line ends, the quotes and a byte order mark are nobody's business."""
    table = open_table(make("work.csv", content))
    assert table.columns == ("text", "label")
    assert [values for _, values in good(table)] == [
        {"text": "hello", "label": "a"},
        {"text": "world", "label": "b"},
    ]
    assert bad(table) == []


def test_excels_own_delimiter_line(make: Make) -> None:
    """Excel writes `sep=;` above the header; it is obeyed and is no row."""
    table = open_table(make("work.csv", b"sep=;\ntext;label\na,b;c\n"))
    assert good(table) == [(3, {"text": "a,b", "label": "c"})]


def test_a_comma_in_most_texts_does_not_win_over_the_real_delimiter(make: Make) -> None:
    """The delimiter is the one that splits header and rows into equally many fields."""
    rows = b"".join(b"one, two, three %d;a\n" % n for n in range(20))
    assert open_table(make("work.csv", b"text;label\n" + rows)).columns == ("text", "label")


def test_lines_are_counted_where_rows_start(make: Make) -> None:
    """A text of several lines does not shift the numbers of the rows after it."""
    table = open_table(
        make("work.csv", b'text,label\n"one\ntwo\n\nthree",a\nfour,b\nfive\nsix,c\n')
    )
    assert [line for line, _ in good(table)] == [2, 6, 8]
    assert good(table)[0][1]["text"] == "one\ntwo\n\nthree"
    assert bad(table) == [(7, "label", "1 field, the header has 2")]


def test_other_encodings_are_named_not_guessed(make: Make) -> None:
    """In the wrong encoding every letter is a letter, so only the user can know."""
    path = make("work.csv", "text,label\nGrüße,ä\n".encode("cp1252"))
    assert good(open_table(path, encoding="cp1252")) == [(2, {"text": "Grüße", "label": "ä"})]
    assert bad(open_table(path))[0][2].endswith("give the encoding cp1252")
    with pytest.raises(InputError, match="unknown encoding 'klingon'"):
        open_table(path, encoding="klingon")


def test_a_text_of_one_megabyte(make: Make) -> None:
    """Long texts are read whole, in CSV and in JSON Lines."""
    long = "wort " * 210_000
    table = open_table(make("work.csv", f'text,label\n"{long}",a\nshort,b\n'.encode()))
    assert [len(values["text"]) for _, values in good(table)] == [len(long), 5]
    table = open_table(make("work.jsonl", b'{"text": "%s"}\n' % long.encode()))
    assert good(table)[0][1]["text"] == long


def test_jsonl_keeps_types_and_further_keys(make: Make) -> None:
    """JSON has types and rows may differ; both are kept as they are."""
    table = open_table(make("work.jsonl", b'{"text": "a", "n": 1}\n\n{"text": "b", "tags": ["x"]}'))
    assert table.columns == ("text", "n", "tags")
    assert good(table) == [(1, {"text": "a", "n": 1}), (3, {"text": "b", "tags": ["x"]})]


def test_xlsx_values(tmp_path: Path) -> None:
    """Dates are ISO text, numbers numbers, Excel's escapes characters, blank rows no rows."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["text", "n", "when", "at", None])
    sheet.append(["one_x000D_\ntwo", 3, date(2026, 1, 2), _naive(3, 4, 5)])
    sheet.append([])
    sheet.append(["#N/A", 0.5, None, True])
    book.create_sheet("notes").append(["private"])
    book.create_sheet("old").sheet_state = "hidden"
    path = tmp_path / "work.xlsx"
    book.save(path)
    table = open_table(path)
    assert table.columns == ("text", "n", "when", "at")
    assert table.notes == ("sheets not read: notes, old",)
    assert good(table) == [
        (2, {"text": "one\r\ntwo", "n": 3, "when": "2026-01-02", "at": "2026-01-02T03:04:05"}),
    ]
    assert bad(table) == [(4, "text", "the cell shows the error #N/A")]
    assert open_table(path, sheet="notes").columns == ("private",)
    with pytest.raises(InputError, match="no sheet 'x'; it has Sheet, notes, old"):
        open_table(path, sheet="x")


def test_xlsx_hidden_sheets_are_not_the_data(tmp_path: Path) -> None:
    """What a person does not see when opening the workbook is not read."""
    book = openpyxl.Workbook()
    book.active.title = "lists"
    book.active.append(["secret"])
    book.active.sheet_state = "hidden"
    book.create_sheet("work").append(["text"])
    book.save(tmp_path / "work.xlsx")
    assert open_table(tmp_path / "work.xlsx").columns == ("text",)


def test_xlsx_formulas(tmp_path: Path) -> None:
    """A formula is read as the value it shows; one without a value is a fault, not a blank."""
    book = openpyxl.Workbook()
    book.active.append(["text", "n"])
    book.active.append(["a", "=1+1"])
    book.active.append(["b", 4])
    book.active.append([None, "=A1"])
    path = tmp_path / "work.xlsx"
    book.save(path)
    assert bad(open_table(path)) == [
        (2, "n", "the formula =1+1 was never calculated; open and save the workbook"),
        (4, "n", "the formula =A1 was never calculated; open and save the workbook"),
    ]
    calculated = tmp_path / "calculated.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(calculated, "w") as new:
        for part in old.namelist():
            new.writestr(part, old.read(part).replace(b"<f>1+1</f><v />", b"<f>1+1</f><v>2</v>"))
    assert (2, {"text": "a", "n": 2}) in good(open_table(calculated))


def test_parquet_values(tmp_path: Path) -> None:
    """The same values as from the other formats: times and decimals are text."""
    path = tmp_path / "work.parquet"
    columns = {
        "text": pa.array(["a", None, "c"]).dictionary_encode(),
        "n": pa.array([1, 2, None]),
        "when": pa.array([_naive(0), _naive(3), None], pa.timestamp("ns")),
        "day": pa.array([date(2026, 1, 2), None, None]),
        "price": pa.array([Decimal("1.10"), None, Decimal("2.00")]),
    }
    pq.write_table(pa.table(columns), path)
    rows = [values for _, values in good(open_table(path))]
    assert rows[0] == {
        "text": "a", "n": 1, "when": "2026-01-02", "day": "2026-01-02", "price": "1.10",
    }  # fmt: skip
    assert rows[1]["when"].startswith("2026-01-02T03:00:00")
    assert rows[2] == {"text": "c", "n": None, "when": None, "day": None, "price": "2.00"}


def test_a_header_alone_is_a_table_without_rows(make: Make) -> None:
    """It is for the caller to say that there is nothing to do."""
    table = open_table(make("work.csv", b"text,label\n"))
    assert (table.columns, list(table)) == (("text", "label"), [])


def test_a_table_can_be_read_again(make: Make) -> None:
    """Looking for columns, then reading the rows: two passes, the same rows."""
    table = open_table(make("work.csv", b"text,label\na,b\n"))
    assert list(table) == list(table)


# One bad row, and the rest.

BAD_ROWS = {
    "broken UTF-8": (
        "work.csv", b"text,label\nab\xffc,a\ngood,b\n", (2, "text", "byte 0xff at character 3 is"),
    ),
    "broken UTF-8 in the second line of a row": (
        "work.csv", b'text,label\n"ab\ncd\xe9",a\ngood,b\n', (2, "text", "byte 0xe9 at char"),
    ),
    "NUL": ("work.csv", b"text,label\na\0b,a\ngood,b\n", (2, "text", "holds a NUL character")),
    "too many fields": (
        "work.csv", b"text,label\na,b,c\ngood,b\n", (2, None, "3 fields, the header has 2; a text"),
    ),
    "too few fields": (
        "work.csv", b"text,label\na\ngood,b\n", (2, "label", "1 field, the header has 2"),
    ),
    "quote never closed": (
        "work.csv", b'text,label\n"a,a\ngood,b\n', (2, None, "a quote opened here is not closed"),
    ),
    "text after a closing quote": (
        "work.csv", b'text,label\n"a" b,a\ngood,b\n', (2, None, "text follows a closing quote"),
    ),
    "not JSON": ("w.jsonl", b'{"text": }\n{"text": "good"}', (1, None, "not JSON at character 10")),
    "JSON list": ("w.jsonl", b'7\n{"text": "good"}', (1, None, "not an object but a number")),
    "JSON NaN": (
        "w.jsonl", b'{"n": NaN}\n{"text": "good"}', (1, None, "NaN is not a JSON value"),
    ),
    "JSON key twice": (
        "w.jsonl", b'{"n": 1, "n": 2}\n{"text": "good"}', (1, None, "the key 'n' stands twice"),
    ),
    "JSON half a character": (
        "w.jsonl", b'{"n": "\\ud800"}\n{"text": "good"}', (1, "n", "holds half of a"),
    ),
    "JSON NUL": ("w.jsonl", b'{"n": "\\u0000"}\n{"text": "good"}', (1, "n", "holds a NUL")),
    "JSON too deep": (
        "w.jsonl", b'{"n": ' + b"[" * 200_000 + b'\n{"text": "good"}', (1, None, "nested too"),
    ),
    "JSON broken UTF-8": (
        "w.jsonl", b'{"n": "\xff"}\n{"text": "good"}', (1, None, "byte 0xff at character 8 is not"),
    ),
    "JSON huge number": (
        "w.jsonl", b'{"n": ' + b"9" * 5000 + b'}\n{"text": "good"}', (1, None, "Exceeds the limit"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "fault"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named_and_the_rest_goes_on(
    make: Make, name: str, content: bytes, fault: tuple[int, str | None, str]
) -> None:
    """File, line and field; the good row after it is read; with strict it is raised at once."""
    path = make(name, content)
    (line, field, reason), *more = bad(open_table(path))
    assert (line, field) == fault[:2]
    assert reason.startswith(fault[2])
    assert more == []
    assert good(open_table(path))[-1][1]["text"] == "good"
    with pytest.raises(RowError, match=f"{name}, line {line}") as caught:
        list(open_table(path, strict=True))
    assert caught.value.where["line"] == line


def test_a_stray_quote_costs_one_row_not_the_file(make: Make) -> None:
    """The classic: everything after an opening quote would be read as one field."""
    rows = [b"text %d,a\n" % n for n in range(1000)]
    rows[500] = b'"text 500,a\n'
    table = open_table(make("work.csv", b"text,label\n" + b"".join(rows)))
    assert [line for line, _, _ in bad(table)] == [502]
    assert len(good(table)) == 999


def test_parquet_bad_values(tmp_path: Path) -> None:
    """Bytes that are no text and numbers that are none, each named by row and column."""
    raw = pa.array([b"ok", b"\xff", b"ok", b"ok"])
    text = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    numbers = pa.array([1.0, 2.0, float("nan"), float("inf")])
    pq.write_table(pa.table({"text": text, "n": numbers}), tmp_path / "work.parquet")
    assert bad(open_table(tmp_path / "work.parquet")) == [
        (2, "text", "holds half of a surrogate pair at position 0"),
        (3, "n", "nan is not a number"),
        (4, "n", "inf is not a number"),
    ]


# Files that cannot be used at all.

BAD_FILES = {
    "empty": ("work.csv", b"", "the file is empty"),
    "empty xlsx": ("work.xlsx", b"", "the file is empty"),
    "blank": ("work.csv", b"\n\n\n", "the file is empty"),
    "blank jsonl": ("work.jsonl", b"\n \n", "the file is empty"),
    "duplicate columns": ("work.csv", b"a,b,a\n1,2,3\n", "columns 1 and 3 are both named 'a'"),
    "broken header": ("work.csv", b"te\xffxt,label\na,b\n", "line 1, field 'header': byte 0xff"),
    "JSON array": ("work.json", b'\n[{"text": "a"}]', "this is a JSON array"),
    "old Excel": ("work.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old .xls workbook"),
    "gzip": ("work.csv.gz", b"\x1f\x8b\x08\0", "compressed with gzip"),
    "PDF": ("work.pdf", b"%PDF-1.7", "is a PDF document"),
    "unknown ending": ("work.dat", b"text\n", "the ending '.dat' says nothing"),
    "not XLSX": ("work.xlsx", b"text,label\n", "named as xlsx but its content is not"),
    "not Parquet": ("work.parquet", b"text,label\n", "named as parquet but its content is not"),
    "cut XLSX": ("work.xlsx", b"PK\x03\x04" + bytes(100), "not a readable Excel workbook"),
    "cut Parquet": ("work.parquet", b"PAR1" + bytes(100), "not a readable Parquet file"),
    "old Macintosh": ("work.csv", b"text,label\ra,b\r", "a carriage return alone"),
    "cut UTF-16": ("work.csv", "text,label\na,b".encode("utf-16") + b"\0", "not UTF-16 near line"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_cannot_be_used(make: Make, name: str, content: bytes, message: str) -> None:
    """It says which file, what is wrong with it and what to do."""
    with pytest.raises(InputError, match=message) as caught:
        list(open_table(make(name, content)))
    assert name in caught.value.message
    assert caught.value.hint


def test_the_wrong_delimiter_is_seen(make: Make) -> None:
    """One column named `text;label` is the mark of a wrong delimiter."""
    path = make("work.csv", b"text;label\nhello;a\n")
    with pytest.raises(InputError, match="one column named 'text;label'") as caught:
        open_table(path, delimiter=",")
    assert "Did you mean the delimiter ';' (semicolon)" in caught.value.hint
    with pytest.raises(InputError, match="a delimiter is one character"):
        open_table(path, delimiter="||")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """A missing file and a folder are different mistakes."""
    with pytest.raises(NotFound, match="no file"):
        open_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        open_table(tmp_path)
    with pytest.raises(InputError, match="unknown format 'xml'"):
        open_table(tmp_path / "none.csv", format="xml")


def test_the_content_decides_over_a_wrong_ending(tmp_path: Path) -> None:
    """A workbook that was renamed to .csv is read as what it is."""
    book = openpyxl.Workbook()
    book.active.append(["text"])
    book.save(tmp_path / "work.xlsx")
    (tmp_path / "work.xlsx").rename(tmp_path / "work.csv")
    assert open_table(tmp_path / "work.csv").format == "xlsx"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([["a"], ["b"]]), "column 'x' is list<.*nested columns"),
        (pa.array([{"a": 1}, {"a": 2}]), "column 'x' is struct<.*nested columns"),
        (pa.array([b"a", b"b"]), "column 'x' is binary: raw bytes"),
    ],
    ids=["list", "struct", "binary"],
)
def test_parquet_columns_that_are_no_table(tmp_path: Path, column: Any, message: str) -> None:
    """Refused by name: which part of a nested value is meant is not ours to decide."""
    pq.write_table(pa.table({"text": ["a", "b"], "x": column}), tmp_path / "work.parquet")
    with pytest.raises(InputError, match=message):
        open_table(tmp_path / "work.parquet")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """64 MiB of one byte pack into 64 KiB; ten such parts would fill a small machine."""
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(64 * 1024 * 1024))
    with pytest.raises(InputError, match=r"would unpack to 67,108,\d+: refused"):
        open_table(path)


def test_a_workbook_with_a_broken_sheet(tmp_path: Path) -> None:
    """Malformed XML in the middle ends with an error that names the file, not a traceback."""
    book = openpyxl.Workbook()
    for number in range(2000):
        book.active.append([f"text {number}"])
    book.save(tmp_path / "whole.xlsx")
    path = tmp_path / "work.xlsx"
    with zipfile.ZipFile(tmp_path / "whole.xlsx") as old, zipfile.ZipFile(path, "w") as new:
        for part in old.namelist():
            data = old.read(part)
            new.writestr(part, data[: len(data) // 2] if "sheet1" in part else data)
    with pytest.raises(InputError, match=r"work\.xlsx: not a readable Excel workbook"):
        list(open_table(path))
