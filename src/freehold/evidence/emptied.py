"""What erasure leaves of a row: everything but its personal columns, bound anew in the open.

The salt of an erased item is gone, so that nobody can recompute the old commitments of its rows,
nor test a guess about them. What remains of each row holds nothing personal; the entry of the
erasure commits to it by a plain digest, so that it can still not be altered unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table

from freehold.lab.schema import COMMITTED, ROOTED

ERASED = "item.erased"  # the kind of the entries that name erased items
_NOTHING = "{}"  # in a structured column that may not be null


def personal_columns(table: Table) -> tuple[str, ...]:
    """Return the names of the columns of a table that erasure empties."""
    spec = COMMITTED.get(table.name) or ROOTED[table.name]
    return spec.personal


def emptied(table: Table, item_id: str) -> dict[str, str | None]:
    """Return the values that the personal columns of an erased item's row have."""
    values: dict[str, str | None] = {}
    for name in personal_columns(table):
        if table.c[name].nullable:
            values[name] = None
        else:
            values[name] = f"erased:{item_id}" if name == "external_id" else _NOTHING
    return values


def left_over(table: Table, row: Mapping[str, Any]) -> list[str]:
    """Return the names of personal columns of an erased item's row that still say something."""
    expected = emptied(table, str(row["item_id"]))
    return [name for name, value in expected.items() if row[name] != value]
