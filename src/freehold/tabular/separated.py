"""CSV: rows of a text file whose fields are parted by a comma, semicolon, tab or bar.

How a row is read:

1. Physical lines are fed to Python's `csv` reader one by one and kept until the row is complete,
   so a row that runs over several lines is reported by the line where it starts.
2. When a row cannot be read (a quote that is never closed, text after a closing quote), its first
   line is reported and reading goes on **with the second line of that row**. So one stray quote
   costs one row and not the rest of the file.
3. A row with too many or too few fields is reported; it is never padded or cut.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from freehold.errors import InputError
from freehold.tabular.guarding import unguard
from freehold.tabular.lines import detect_encoding, encoding_fault, open_lines
from freehold.tabular.rows import BadRow, Reading, Row, Table, checked, header

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
RECORD_LIMIT = 16 * 1024 * 1024
"""Characters in one row. A quote that is never closed would otherwise swallow the whole file."""
_SAMPLE_BYTES = 256 * 1024
_SAMPLE_ROWS = 200


@dataclass(frozen=True)
class Dialect:
    """How one file is written."""

    delimiter: str
    encoding: str
    guarded: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it stands in the file: the line where it starts, and its fields or the fault."""

    line: int
    fields: list[str]
    fault: str | None = None


def open_separated(
    path: Path, delimiter: str | None, encoding: str | None, *, strict: bool, guarded: bool
) -> Table:
    """Open a CSV file. Raises InputError when its header cannot be used."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    encoding, note = detect_encoding(sample, encoding)
    if b"\r" in sample and b"\n" not in sample:
        raise InputError(
            f"{path.name}: its lines end in a carriage return alone",
            hint="Save it with ordinary line ends (LF or CRLF).",
            file=str(path),
        )
    if delimiter is None:
        delimiter = _declared(path, encoding) or _sniff(path, encoding)
    elif len(delimiter) != 1 or delimiter in '"\r\n':
        raise InputError(
            f"a delimiter is one character, got {delimiter!r}",
            hint="Usual ones: ',' ';' a tab or '|'.",
        )
    dialect = Dialect(delimiter, encoding, guarded)
    columns = _header(path, dialect)
    notes = (note,) if note else ()
    return Table(path, "csv", columns, lambda: _rows(path, dialect, columns), strict, notes)


def read_records(lines: Iterator[str], delimiter: str) -> Iterator[Record]:
    """Yield every row of the lines, empty lines left out, faults as `Record.fault`."""
    # The limit belongs to the process, not to a reader: it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), RECORD_LIMIT))
    source = _Source(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _Runaway) as error:
            yield Record(source.start, [], _explain(error, source.line))
            source.rewind()
            reader = csv.reader(source, delimiter=delimiter, strict=True)
            continue
        if fields:
            yield Record(source.start, fields)


class _Runaway(Exception):
    """A row grew over the limit: a quote was opened and never closed."""


class _Source:
    """Lines for the csv reader that can be taken back to the second line of a row."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._size = 0
        self.line = 0
        self.start = 1

    def begin(self) -> None:
        """Remember that a new row starts at the next line."""
        self._record.clear()
        self._size = 0
        self.start = self.line + 1

    def rewind(self) -> None:
        """Give back all lines of this row but the first."""
        self._again.extendleft(reversed(self._record[1:]))
        self.line = self.start

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.line += 1
        self._record.append(line)
        self._size += len(line)
        if self._size > RECORD_LIMIT and len(self._record) > 1:
            raise _Runaway
        return line


def _explain(error: Exception, line: int) -> str:
    text = str(error)
    if isinstance(error, _Runaway) or "unexpected end of data" in text:
        return f"a quote opened here is not closed by line {line}"
    if "expected after" in text:
        return 'text follows a closing quote; inside quotes a quote is written twice ("")'
    if "field larger" in text:
        return f"a field is larger than {RECORD_LIMIT >> 20} MiB"
    if "new-line character" in text:
        return "a carriage return stands inside the row"
    return text


def _rows(path: Path, dialect: Dialect, columns: tuple[str, ...]) -> Reading:
    with open_lines(path, dialect.encoding) as lines:
        records = read_records(lines, dialect.delimiter)
        for record in records:
            if _is_declaration(record):
                continue
            break  # that was the header
        for record in records:
            yield _row(record, dialect, columns)


def _row(record: Record, dialect: Dialect, columns: tuple[str, ...]) -> Row | BadRow:
    if record.fault:
        return BadRow(record.line, None, record.fault)
    for place, text in enumerate(record.fields):
        reason = encoding_fault(text, dialect.encoding)
        if reason:
            return BadRow(record.line, columns[min(place, len(columns) - 1)], reason)
    if len(record.fields) != len(columns):
        return _wrong_width(record, dialect, columns)
    values = record.fields
    if dialect.guarded:
        values = [unguard(text) for text in values]
    return checked(record.line, dict(zip(columns, values, strict=True)))


def _wrong_width(record: Record, dialect: Dialect, columns: tuple[str, ...]) -> BadRow:
    found, wanted = len(record.fields), len(columns)
    reason = f"{found} field{'s' * (found != 1)}, the header has {wanted}"
    if found > wanted:
        reason += f"; a text that holds {dialect.delimiter!r} must stand in quotes"
        return BadRow(record.line, None, reason)
    return BadRow(record.line, columns[found], reason)


def _header(path: Path, dialect: Dialect) -> tuple[str, ...]:
    with open_lines(path, dialect.encoding) as lines:
        records = read_records(lines, dialect.delimiter)
        record = next((each for each in records if not _is_declaration(each)), None)
    if record is None:
        raise InputError(
            f"{path.name}: the file is empty",
            hint="The first line names the columns; the rows follow.",
            file=str(path),
        )
    reason = record.fault or encoding_fault("".join(record.fields), dialect.encoding)
    if reason:
        raise BadRow(record.line, "header", reason).error(path)
    cells = [unguard(cell) if dialect.guarded else cell for cell in record.fields]
    columns = header(cells, path)
    if len(columns) == 1:
        _refuse_wrong_delimiter(path, columns[0], dialect.delimiter)
    return columns


def _refuse_wrong_delimiter(path: Path, column: str, used: str) -> None:
    for delimiter, name in DELIMITERS.items():
        if delimiter in column:
            raise InputError(
                f"{path.name}: one column named {column!r}",
                hint=f"Did you mean the delimiter {delimiter!r} ({name}) instead of {used!r}?",
                file=str(path),
                line=1,
            )


def _is_declaration(record: Record) -> bool:
    # Excel's own way of naming the delimiter: a first line `sep=;`.
    text = record.fields[0] if record.fields else ""
    return record.line == 1 and len(record.fields) <= 2 and text[:4].lower() == "sep="


def _declared(path: Path, encoding: str) -> str | None:
    with open_lines(path, encoding) as lines:
        first = next(lines, "").rstrip("\r\n")
    return first[4] if first.lower().startswith("sep=") and len(first) == 5 else None


def _sniff(path: Path, encoding: str) -> str:
    """Return the delimiter that splits the header and, most often, the rows into as many fields.

    `csv.Sniffer` would also consider letters as delimiters; four are enough, and predictable.
    """
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        widths = _sample_widths(path, encoding, delimiter)
        if not widths or widths[0] < 2:
            continue
        score = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _sample_widths(path: Path, encoding: str, delimiter: str) -> list[int]:
    widths: list[int] = []
    size = 0
    with open_lines(path, encoding) as lines:
        for record in read_records(lines, delimiter):
            widths.append(len(record.fields))
            size += sum(map(len, record.fields))
            if len(widths) >= _SAMPLE_ROWS or size > _SAMPLE_BYTES:
                break
    return widths
