"""Items on the record: their texts, and who they are known as at their source."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from freehold.errors import NotFound
from freehold.lab.opened import Lab
from freehold.lab.schema import items, payloads, split_assignments

TEXT = "text"
_AT_ONCE = 500

Thing = TypeVar("Thing")


def item_text(lab: Lab, connection: Connection, item_id: str) -> str:
    """Return the text of one item; NotFound when there is none, or when it was erased."""
    texts = item_texts(lab, connection, [item_id])
    if item_id not in texts:
        raise NotFound(f"no text of item {item_id}: there is no such item, or it was erased")
    return texts[item_id]


def item_texts(lab: Lab, connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Return the texts of items, in the order of the ids. Erased items are left out."""
    wanted = list(ids)
    named: dict[str, str] = {}
    for part in _pieces(wanted):
        rows = connection.execute(
            select(items.c.item_id, items.c.parts).where(
                items.c.item_id.in_(part), items.c.erased_at.is_(None)
            )
        )
        named.update({text_payload(row.parts): row.item_id for row in rows})
    texts: dict[str, str] = {}
    for part in _pieces(list(named)):
        rows = connection.execute(
            select(payloads.c.payload_id, payloads.c.bytes).where(
                payloads.c.payload_id.in_(part), payloads.c.erased_at.is_(None)
            )
        )
        for row in rows:
            # Larger texts stand in files of their own.
            data = row.bytes if row.bytes is not None else lab.payloads.get(connection, row[0])
            texts[named[row.payload_id]] = bytes(data).decode("utf-8")
    return {item_id: texts[item_id] for item_id in wanted if item_id in texts}


def text_payload(parts: str) -> str:
    """Return the payload id of the text part of an item's `parts` column."""
    return str(_part(parts)["payload_id"])


def text_commitment(parts: str) -> str:
    """Return the commitment of the text part of an item's `parts` column."""
    return str(_part(parts)["commitment"])


def find_item(connection: Connection, source: str, external_id: str) -> str | None:
    """Return the id of the item that a source knows under a name, or None."""
    return connection.execute(
        select(items.c.item_id).where(items.c.source == source, items.c.external_id == external_id)
    ).scalar()


def sensitivities(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Return the sensitivity of items by id."""
    found: dict[str, str] = {}
    for part in _pieces(list(ids)):
        rows = connection.execute(
            select(items.c.item_id, items.c.sensitivity).where(items.c.item_id.in_(part))
        )
        found.update({row.item_id: row.sensitivity for row in rows})
    return found


def split_of(connection: Connection, task: str, ids: Iterable[str]) -> dict[str, str]:
    """Return the split of items in a task by item id; items without one are left out."""
    found: dict[str, str] = {}
    table = split_assignments
    for part in _pieces(list(ids)):
        rows = connection.execute(
            select(table.c.item_id, table.c.split).where(
                table.c.task == task, table.c.item_id.in_(part)
            )
        )
        found.update({row.item_id: row.split for row in rows})
    return found


def _part(parts: str) -> dict[str, Any]:
    for part in json.loads(parts):
        if part["name"] == TEXT:
            return dict(part)
    raise NotFound("the item has no part named 'text'")


def _pieces(listed: Sequence[Thing]) -> Iterator[Sequence[Thing]]:
    for start in range(0, len(listed), _AT_ONCE):
        yield listed[start : start + _AT_ONCE]
