"""Rows of CSV, JSONL, Parquet and XLSX files, with the place of every fault."""

from __future__ import annotations

from freehold.tabular.columns import SYNONYMS, Columns, find_columns
from freehold.tabular.rows import BadRow, Row, Table
from freehold.tabular.tables import open_table
from freehold.tabular.writing import write_table

__all__ = [
    "SYNONYMS",
    "BadRow",
    "Columns",
    "Row",
    "Table",
    "find_columns",
    "open_table",
    "write_table",
]
