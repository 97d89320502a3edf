"""JSON Lines: one JSON object on each line, UTF-8."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from freehold.errors import InputError
from freehold.tabular.lines import detect_encoding, encoding_fault, open_lines
from freehold.tabular.rows import BadRow, Reading, Row, Table, checked

_SAMPLE_ROWS = 1000


class _Unusable(ValueError):
    """Valid for Python's reader, but not JSON, or not one meaning."""


def open_jsonl(path: Path, encoding: str | None, *, strict: bool) -> Table:
    """Open a JSON Lines file; its columns are the keys of the first 1,000 good rows.

    A later row may have further keys, and a row may lack some: its values hold what it has.
    Raises InputError for an empty file and for a file that is one JSON array.
    """
    with path.open("rb") as file:
        sample = file.read(4096)
    if not sample.strip():
        raise InputError(
            f"{path.name}: the file is empty", hint="One JSON object a line.", file=str(path)
        )
    if sample.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise InputError(
            f"{path.name}: this is a JSON array, not one object a line",
            hint="Label Studio exports are read by `review import`; save others as JSON Lines.",
            file=str(path),
        )
    encoding, note = detect_encoding(sample, encoding)

    def read() -> Reading:
        return _rows(path, encoding)

    columns: dict[str, None] = {}
    for row in islice(read(), _SAMPLE_ROWS):
        if isinstance(row, Row):
            columns.update(dict.fromkeys(row.values))
    return Table(path, "jsonl", tuple(columns), read, strict, (note,) if note else ())


def _rows(path: Path, encoding: str) -> Reading:
    with open_lines(path, encoding) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _row(number, line, encoding)


def _row(number: int, line: str, encoding: str) -> Row | BadRow:
    reason = encoding_fault(line, encoding)
    if reason:
        return BadRow(number, None, reason)
    try:
        values = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return BadRow(number, None, f"not JSON at character {error.pos + 1}: {error.msg}")
    except _Unusable as error:
        return BadRow(number, None, str(error))
    except RecursionError:
        return BadRow(number, None, "nested too deeply")
    except ValueError as error:  # an integer of more digits than Python agrees to convert
        return BadRow(number, None, str(error).split(";")[0])
    if not isinstance(values, dict):
        return BadRow(number, None, f"not an object but {_kind(values)}")
    return checked(number, values)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unusable(f"the key {twice!r} stands twice")
    return values


def _no_constant(name: str) -> NoReturn:
    raise _Unusable(f"{name} is not a JSON value")


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
