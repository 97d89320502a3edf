"""Write rows to a CSV, JSON Lines, Parquet or XLSX file.

Laws: the file appears whole or not at all, whatever happens meanwhile; and reading what was
written gives the same values. Two formats have less to say: in CSV every value is a text (and
what was guarded against formulas is read with ``guarded=True``); in XLSX an empty text is an empty
cell. What a format cannot hold is refused, never altered: Excel's limit of 32,767 characters to a
cell would otherwise cut a long text silently.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freehold.errors import InputError, ReadOnlyLab, StorageFull
from freehold.tabular.guarding import guard
from freehold.tabular.rows import text_fault
from freehold.tabular.tables import FORMATS

Rows = Iterable[Mapping[str, Any]]
_CELL_LIMIT = 32_767
_ROW_LIMIT = 1_048_576
_XML_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_x(?=[0-9A-Fa-f]{4}_)")


def write_table(
    path: Path,
    rows: Rows,
    columns: Sequence[str],
    format: str | None = None,  # noqa: A002 - the word that users say
) -> int:
    """Write rows and return how many; a key that a row lacks is an empty cell.

    Raises InputError for a value that the format cannot hold, with row and column; StorageFull and
    ReadOnlyLab as their names say. An existing file is replaced only when all is written.
    """
    path = Path(path)
    kind = format or FORMATS.get(path.suffix.lower())
    writers: dict[str, Callable[[Path, Rows, Sequence[str]], int]] = {
        "csv": _write_csv,
        "jsonl": _write_jsonl,
        "parquet": _write_parquet,
        "xlsx": _write_xlsx,
    }
    if kind not in writers:
        raise InputError(
            f"{path.name}: cannot tell which format to write",
            hint="End the name in .csv, .jsonl, .parquet or .xlsx.",
        )
    with replacing(path) as scratch:
        return writers[kind](scratch, rows, columns)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch file that takes the place of `path` when the block ends without an error."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except FileNotFoundError:
        raise InputError(f"no folder {path.parent}", hint="Create it first.") from None
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        scratch.chmod(0o666 & ~mask)  # a scratch file is private; the finished one is ordinary
        scratch.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        scratch.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left to write {path}; it was not changed")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnlyLab(f"{path} may not be written by this user")
    return error


def _write_csv(scratch: Path, rows: Rows, columns: Sequence[str]) -> int:
    count = 0
    with scratch.open("w", encoding="utf-8", newline="") as file:
        # CRLF, as RFC 4180 has it: the writer quotes a text only for characters of its line end.
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([guard(name) for name in columns])
        for count, row in enumerate(rows, 1):
            cells = [_flat(count, name, row.get(name)) for name in columns]
            # Only text can carry a formula; a number keeps its sign.
            writer.writerow([guard(c) if isinstance(c, str) else _csv_text(c) for c in cells])
    return count


def _csv_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write_jsonl(scratch: Path, rows: Rows, columns: Sequence[str]) -> int:
    count = 0
    with scratch.open("w", encoding="utf-8", newline="\n") as file:
        for count, row in enumerate(rows, 1):
            values = {name: row[name] for name in columns if name in row}
            for name, value in values.items():
                _check(count, name, value)
            try:
                file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")
            except (ValueError, TypeError) as error:
                raise InputError(f"row {count} cannot be written as JSON: {error}") from error
    return count


def _write_parquet(scratch: Path, rows: Rows, columns: Sequence[str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells: dict[str, list[Any]] = {name: [] for name in columns}
    for number, row in enumerate(rows, 1):
        for name in columns:
            cells[name].append(_flat(number, name, row.get(name)))
    arrays = []
    for name in columns:
        try:
            arrays.append(pa.array(cells[name]))
        except (pa.ArrowException, OverflowError) as error:
            raise InputError(
                f"column {name!r} mixes kinds of values: {error}", field=name
            ) from error
    pq.write_table(pa.table(arrays, names=list(columns)), scratch)
    return len(next(iter(cells.values()), []))


def _write_xlsx(scratch: Path, rows: Rows, columns: Sequence[str]) -> int:
    import openpyxl

    workbook = openpyxl.Workbook(write_only=True)
    sheet = workbook.create_sheet("rows")
    try:
        count = _fill(sheet, rows, columns)
    finally:
        sheet.close()  # after a refused value too: it holds a file of its own open
    workbook.save(scratch)
    return count


def _fill(sheet: Any, rows: Rows, columns: Sequence[str]) -> int:
    sheet.append([_xlsx_cell(sheet, 0, name, name) for name in columns])
    count = 0
    for count, row in enumerate(rows, 1):
        if count >= _ROW_LIMIT:
            raise InputError(
                f"a sheet holds {_ROW_LIMIT - 1:,} rows", hint="Write CSV, JSON Lines or Parquet."
            )
        sheet.append([_xlsx_cell(sheet, count, name, row.get(name)) for name in columns])
    return count


def _xlsx_cell(sheet: Any, row: int, column: str, value: Any) -> Any:
    from openpyxl.cell import WriteOnlyCell

    value = _flat(row, column, value)
    if not isinstance(value, str):
        return value
    # Characters that XML cannot hold are written as Excel itself does: _x000D_ and so on.
    text = _XML_CONTROL.sub(lambda found: f"_x{ord(found[0][0]):04X}_" + found[0][1:], value)
    if len(text) > _CELL_LIMIT:
        raise InputError(
            f"row {row}: {len(text):,} characters; a cell of a workbook holds {_CELL_LIMIT:,}",
            hint="Write CSV, JSON Lines or Parquet.",
            field=column,
        )
    cell = WriteOnlyCell(sheet, value=text)
    # The type says that this is text. Without it a text that begins with "=" would be a formula.
    cell.data_type = "s"
    return cell


def _flat(row: int, column: str, value: Any) -> Any:
    if value is not None and not isinstance(value, str | bool | int | float):
        raise InputError(
            f"row {row}, column {column!r}: {type(value).__name__} has no place in a cell",
            hint="Write JSON Lines, or join the parts to one text.",
            field=column,
        )
    _check(row, column, value)
    return value


def _check(row: int, column: str, value: Any) -> None:
    reason = text_fault(value) if isinstance(value, str) else None
    if reason:
        raise InputError(f"row {row}, column {column!r}: {reason}", field=column)
