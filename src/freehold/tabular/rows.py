"""What a file of rows gives: good rows, bad rows as values, and where each of them stands.

A law for every format: **values are JSON values** (text, whole or decimal number, true/false,
nothing; in JSON Lines also lists and objects). Dates become ISO 8601 text, so that the same
table gives the same values whichever format it was saved in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.errors import InputError, RowError


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `line` is where it starts, as an editor or a spreadsheet program counts.

    In a Parquet file, which has no lines, it is the number of the row, from 1.
    """

    line: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that cannot be used, and why; `field` is None when the whole row is at fault."""

    line: int
    field: str | None
    reason: str

    def error(self, file: Path) -> RowError:
        """Return the same fault as an exception, for those who do not go on."""
        where = f"{file.name}, line {self.line}" + (f", field {self.field!r}" if self.field else "")
        return RowError(f"{where}: {self.reason}", file=str(file), line=self.line, field=self.field)


Reading = Iterator[Row | BadRow]


@dataclass(frozen=True)
class Table:
    """A file of rows: its columns, and as many passes over its rows as are wanted.

    `notes` says what was seen and left aside (a byte order mark, sheets that were not read), so
    that nothing is ignored silently. Iterating holds a few rows in memory, whatever the size; with
    `strict` the first bad row is raised as `RowError` instead of being yielded.
    """

    path: Path
    format: str
    columns: tuple[str, ...]
    read: Callable[[], Reading]
    strict: bool = False
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Reading:
        for row in self.read():
            if self.strict and isinstance(row, BadRow):
                raise row.error(self.path)
            yield row


def text_fault(value: str) -> str | None:
    """Return why a text cannot be stored, or None.

    A NUL byte is refused by PostgreSQL and hides what follows from many programs; half of a
    surrogate pair is not a character and cannot be written as UTF-8.
    """
    if "\0" in value:
        return f"holds a NUL character at position {value.index(chr(0))}"
    if value.isascii():
        return None
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"holds half of a surrogate pair at position {error.start}"
    return None


def checked(line: int, values: dict[str, Any]) -> Row | BadRow:
    """Return the row, or the fault of the first of its texts that cannot be stored."""
    for name, value in values.items():
        reason = text_fault(value) if isinstance(value, str) else None
        if reason:
            return BadRow(line, name, reason)
    return Row(line, values)


def header(cells: list[str], path: Path) -> tuple[str, ...]:
    """Return the column names of a header row; a nameless column is called `column N`.

    Raises InputError for a name that stands twice: which of the two is meant cannot be known.
    """
    names = tuple(cell.strip() or f"column {place}" for place, cell in enumerate(cells, 1))
    for place, name in enumerate(names, 1):
        first = names.index(name) + 1
        if first != place:
            raise InputError(
                f"{path.name}: columns {first} and {place} are both named {name!r}",
                hint="Rename one of them; nothing was read.",
                file=str(path),
                field=name,
            )
    return names
