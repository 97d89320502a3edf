"""Parquet: rows of flat columns, read batch by batch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from freehold.errors import InputError
from freehold.tabular.rows import BadRow, Reading, Row, Table, checked, header

_BATCH_ROWS = 2048
_ZEROS = re.compile(r"\.0+(?=Z|$)|(\.\d*[1-9])0+(?=Z|$)")


def open_parquet(path: Path, *, strict: bool) -> Table:
    """Open a Parquet file. Raises InputError when it is broken or has nested or binary columns."""
    with _parquet(path) as file:
        schema = file.schema_arrow
    _refuse_unusable(path, schema)
    columns = header(list(schema.names), path)
    return Table(path, "parquet", columns, lambda: _rows(path, columns), strict)


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def _refuse_unusable(path: Path, schema: Any) -> None:
    import pyarrow.types as kinds

    for column in schema:
        kind = column.type.value_type if kinds.is_dictionary(column.type) else column.type
        nested = kinds.is_nested(kind)
        if nested or kinds.is_binary(kind) or kinds.is_large_binary(kind):
            raise InputError(
                f"{path.name}: column {column.name!r} is {kind}: "
                + ("nested columns" if nested else "raw bytes")
                + " have no place in a table of text",
                hint="Leave the column out, or write its parts as columns of their own.",
                file=str(path),
                field=column.name,
            )


def _rows(path: Path, columns: tuple[str, ...]) -> Reading:
    number = 0
    with _parquet(path) as file:
        for batch in _batches(path, file):
            for values in _batch_rows(batch, columns):
                number += 1
                yield _row(number, values)


def _batches(path: Path, file: Any) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from file.iter_batches(batch_size=_BATCH_ROWS)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def _batch_rows(batch: Any, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    lists = [_values(column) for column in batch.columns]
    for row in zip(*lists, strict=True):
        yield dict(zip(columns, row, strict=True))


def _values(column: Any) -> list[Any]:
    """Return a column's values as JSON values: times and decimals as text, whatever the unit."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kinds.is_timestamp(column.type):
        texts = column.cast(pa.string()).to_pylist()
        return [text and _timestamp(text) for text in texts]
    if kinds.is_temporal(column.type) or kinds.is_decimal(column.type):
        return list(column.cast(pa.string()).to_pylist())
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:  # a writer put bytes that are not UTF-8 into a text column
        return [_decoded(value.as_buffer()) for value in column]


def _timestamp(text: str) -> str:
    """Return Arrow's text of a timestamp as the other formats have it, at no loss of precision."""
    return _ZEROS.sub(r"\1", text.replace(" ", "T")).removesuffix("T00:00:00")


def _decoded(buffer: Any) -> str | None:
    return None if buffer is None else buffer.to_pybytes().decode(errors="surrogateescape")


def _row(number: int, values: dict[str, Any]) -> Row | BadRow:
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            return BadRow(number, name, f"{value} is not a number")
    return checked(number, values)


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.name}: not a readable Parquet file: {error}",
        hint="Write it again; a copy that was cut short cannot be read.",
        file=str(path),
    )
