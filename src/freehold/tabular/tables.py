"""The one way to open a file of rows, whatever its format."""

from __future__ import annotations

from pathlib import Path

from freehold.errors import InputError, NotFound
from freehold.tabular.columnar import open_parquet
from freehold.tabular.jsonl import open_jsonl
from freehold.tabular.rows import Table
from freehold.tabular.separated import open_separated
from freehold.tabular.spreadsheets import open_spreadsheet

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
}
_MAGIC = {b"PK\x03\x04": "xlsx", b"PAR1": "parquet"}
_FOREIGN = {
    b"\xd0\xcf\x11\xe0": (
        "an old .xls workbook or one with a password",
        "Save it as .xlsx without a password, or as CSV.",
    ),
    b"\x1f\x8b": ("compressed with gzip", "Unpack it first."),
    b"%PDF": ("a PDF document", "Export the table as CSV or .xlsx."),
}


def open_table(
    path: Path,
    *,
    format: str | None = None,  # noqa: A002 - the word that users say
    delimiter: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
    strict: bool = False,
    guarded: bool = False,
) -> Table:
    """Open a CSV, JSON Lines, Parquet or XLSX file as a table of rows.

    The format is told by the file's first bytes and its ending, unless `format` names it; the
    delimiter and a byte order mark are found, an encoding other than UTF-8 must be named.
    `guarded` is for CSV files that Freehold wrote (see `tabular.guarding`). A faulty row is
    yielded as `BadRow`, or raised as `RowError` with `strict`. Raises InputError when the file as
    a whole cannot be used: empty, no header, duplicate columns, another format than it says.
    """
    path = Path(path)
    kind = format or detect_format(path)
    if kind == "csv":
        return open_separated(path, delimiter, encoding, strict=strict, guarded=guarded)
    if kind == "jsonl":
        return open_jsonl(path, encoding, strict=strict)
    if kind == "parquet":
        return open_parquet(path, strict=strict)
    if kind == "xlsx":
        return open_spreadsheet(path, sheet, strict=strict)
    raise InputError(f"unknown format {kind!r}; known: csv, jsonl, parquet, xlsx")


def detect_format(path: Path) -> str:
    """Return the format of a file. Raises NotFound; InputError when name and content differ."""
    start = _first_bytes(path)
    if not start:
        raise InputError(
            f"{path.name}: the file is empty",
            hint="The first line names the columns; the rows follow.",
            file=str(path),
        )
    for magic, (what, hint) in _FOREIGN.items():
        if start.startswith(magic):
            raise InputError(f"{path.name} is {what}", hint=hint, file=str(path))
    named = FORMATS.get(path.suffix.lower())
    found = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if found:
        return found
    if named in ("xlsx", "parquet"):
        raise InputError(
            f"{path.name} is named as {named} but its content is not",
            hint="Give the format with --format, or rename the file.",
            file=str(path),
        )
    if named is None:
        raise InputError(
            f"{path.name}: the ending {path.suffix!r} says nothing of its format",
            hint=f"Known endings: {', '.join(FORMATS)}. Or name it: --format csv.",
            file=str(path),
        )
    return named


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except FileNotFoundError:
        raise NotFound(f"no file {path}", hint="Check the path.", file=str(path)) from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder", hint="Name a file in it.", file=str(path)) from None
    except PermissionError:
        raise InputError(
            f"{path} may not be read by this user", hint="Change its permissions.", file=str(path)
        ) from None
