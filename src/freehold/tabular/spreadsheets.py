"""XLSX: the rows of one visible sheet of an Excel workbook.

The values that the workbook shows are read, never its formulas. A formula that was never
calculated has no value; it is reported rather than read as an empty cell. Workbooks are zip
archives of XML from anywhere, so what could fill the memory is refused before it is unpacked.
"""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, time, timedelta
from itertools import islice, repeat
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from freehold.errors import InputError
from freehold.tabular.rows import BadRow, Reading, Row, Table, checked, header

UNPACKED_LIMIT = 1024**3
"""Bytes of all parts, unpacked. 200,000 rows of long texts stay under a quarter of it."""
RATIO_LIMIT = 250
"""Unpacked to packed size. Sheets reach about 30; a zip bomb lives near 1,000."""
_RATIO_FREE = 32 * 1024 * 1024  # small archives may repeat themselves as much as they like
_CHUNK = 1 << 20
# What openpyxl lets through when a part is missing, cut short or holds what it does not expect.
_MALFORMED = (
    zipfile.BadZipFile, zlib.error, EOFError, ParseError, KeyError, ValueError, IndexError,
    TypeError, AttributeError,
)  # fmt: skip
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")


def open_spreadsheet(path: Path, sheet: str | None, *, strict: bool) -> Table:
    """Open a workbook's first visible sheet, or the one named. Raises InputError."""
    with_formulas = _inspect(path)
    with _workbook(path, data_only=True) as workbook:
        name, note = _choose(workbook, path, sheet)
    first = next(_cells(path, name, with_formulas=False), None)
    if first is None:
        raise InputError(
            f"{path.name}: sheet {name!r} is empty",
            hint="The first row names the columns; the rows follow.",
            file=str(path),
        )
    cells = ["" if cell.value is None else str(_plain(cell.value)) for cell in first[1]]
    while cells and not cells[-1].strip():
        cells.pop()
    columns = header(cells, path)
    notes = (note,) if note else ()
    return Table(
        path, "xlsx", columns, lambda: _rows(path, name, columns, with_formulas), strict, notes
    )


def _inspect(path: Path) -> bool:
    """Refuse an archive that unpacks to an absurd size; say whether any sheet has formulas."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            packed = max(1, sum(part.compress_size for part in parts))
            absurd = unpacked > _RATIO_FREE and unpacked / packed > RATIO_LIMIT
            if unpacked > UNPACKED_LIMIT or absurd:
                raise InputError(
                    f"{path.name}: {packed:,} bytes would unpack to {unpacked:,}: refused",
                    hint="Save the sheet as CSV; if this size is real, split the file.",
                    file=str(path),
                )
            sheets = [part for part in parts if part.filename.startswith("xl/worksheets/")]
            return any(_holds_formula(archive, part) for part in sheets)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise _broken(path, error) from error


def _holds_formula(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    tail = b""
    with archive.open(part) as file:
        while chunk := file.read(_CHUNK):
            if re.search(rb"<(\w+:)?f[ >/]", tail + chunk):
                return True
            tail = chunk[-16:]
    return False


@contextmanager
def _workbook(path: Path, *, data_only: bool) -> Iterator[Any]:
    import openpyxl

    # Opened here, because openpyxl itself judges a file by the ending of its name.
    with path.open("rb") as file:
        try:
            with _quiet():
                workbook = openpyxl.load_workbook(file, read_only=True, data_only=data_only)
        except _MALFORMED as error:
            raise _broken(path, error) from error
        try:
            yield workbook
        finally:
            workbook.close()


def _choose(workbook: Any, path: Path, wanted: str | None) -> tuple[str, str | None]:
    sheets = workbook.worksheets
    visible = [sheet.title for sheet in sheets if sheet.sheet_state == "visible"]
    names = [sheet.title for sheet in sheets]
    if wanted is not None and wanted not in names:
        raise InputError(
            f"{path.name}: no sheet {wanted!r}; it has {', '.join(names)}", file=str(path)
        )
    if wanted is None and not visible:
        raise InputError(
            f"{path.name}: every sheet is hidden", hint="Name the sheet to read.", file=str(path)
        )
    chosen = wanted or visible[0]
    others = [name for name in names if name != chosen]
    return chosen, f"sheets not read: {', '.join(others)}" if others else None


def _cells(
    path: Path, sheet: str, *, with_formulas: bool
) -> Iterator[tuple[int, tuple[Any, ...], tuple[Any, ...]]]:
    """Yield (row number, cells, cells with formulas) of every row that is not empty."""
    with ExitStack() as stack:
        modes = (True, False) if with_formulas else (True,)
        books = [stack.enter_context(_workbook(path, data_only=mode)) for mode in modes]
        values, *formulas = (_sheet_rows(book[sheet]) for book in books)
        pairs = zip(values, formulas[0] if formulas else repeat(()), strict=False)
        numbered = enumerate(pairs, 1)
        while chunk := _take(numbered, 512, path):
            for number, (row, formula) in chunk:
                if any(cell.value is not None for cell in (*row, *formula)):
                    yield number, row, formula


def _sheet_rows(sheet: Any) -> Iterator[tuple[Any, ...]]:
    sheet.reset_dimensions()  # the file's own statement of its size may be wrong, or enormous
    rows: Iterator[tuple[Any, ...]] = sheet.iter_rows(max_row=1_048_576)
    return rows


def _take(numbered: Iterator[Any], count: int, path: Path) -> list[Any]:
    try:
        with _quiet():
            return list(islice(numbered, count))
    except _MALFORMED as error:
        raise _broken(path, error) from error


def _rows(path: Path, sheet: str, columns: tuple[str, ...], with_formulas: bool) -> Reading:
    rows = _cells(path, sheet, with_formulas=with_formulas)
    next(rows, None)
    for number, cells, formulas in rows:
        yield _row(number, cells, formulas, columns)


def _row(
    number: int, cells: tuple[Any, ...], formulas: tuple[Any, ...], columns: tuple[str, ...]
) -> Row | BadRow:
    values: dict[str, Any] = dict.fromkeys(columns)
    for place, cell in enumerate(cells):
        value = _plain(cell.value)
        if place >= len(columns):
            if value is None:
                continue
            return BadRow(number, None, f"a value in column {place + 1}, which has no name")
        name = columns[place]
        if cell.data_type == "e":
            return BadRow(number, name, f"the cell shows the error {value}")
        values[name] = value
    for name, formula in zip(columns, formulas, strict=False):
        if values[name] is None and formula.value is not None:
            text = getattr(formula.value, "text", formula.value)
            reason = f"the formula {text} was never calculated; open and save the workbook"
            return BadRow(number, name, reason)
    return checked(number, values)


def _plain(value: Any) -> Any:
    """Return a cell's value as a JSON value; a date without a time of day stays a date."""
    if isinstance(value, str):
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)
    if isinstance(value, datetime):
        midnight = value.time() == time(0)
        return value.date().isoformat() if midnight else value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    return value


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.name}: not a readable Excel workbook: {error}",
        hint="Open it in a spreadsheet program and save it again as .xlsx, or as CSV.",
        file=str(path),
    )


class _quiet(warnings.catch_warnings):  # noqa: N801 - it reads as a phrase: with _quiet()
    """openpyxl warns of styles and validations that it does not keep; values are not concerned."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", UserWarning)
