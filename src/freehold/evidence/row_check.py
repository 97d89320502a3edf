"""Steps of a verification that concern rows: each is what the last entry naming it committed to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Select, Table, func, literal, select

from freehold.canonical.json import commit, digest
from freehold.canonical.merkle import leaf_hash, root_of
from freehold.errors import InputError
from freehold.evidence.emptied import left_over
from freehold.evidence.entries import row_key, small_row_commitment
from freehold.evidence.findings import Findings
from freehold.evidence.log_check import Named
from freehold.lab.schema import (
    COMMITTED,
    ROOTED,
    Rooted,
    decisions,
    evaluations,
    item_subjects,
    items,
    salts,
    sequences,
)

_SALT = "salt_of_the_item"


def count_rows(connection: Connection) -> int:
    """Return how many rows of committed and rooted tables there are."""
    tables = [one.table for one in COMMITTED.values()] + [one.table for one in ROOTED.values()]
    counts = [select(func.count()).select_from(table) for table in tables]
    return sum(int(connection.execute(count).scalar_one()) for count in counts)


def check_committed(connection: Connection, named: Named, found: Findings) -> None:
    """Recompute the commitment of each committed row; name rows that are altered, extra, gone."""
    for name, spec in COMMITTED.items():
        expected = named.rows.pop(name, {})
        for row, salt in _with_salts(connection, spec.table, salted=spec.salted):
            key = row_key(spec.key, row)
            stated = expected.pop(key, None)
            found.count("rows")
            if stated is None:
                found.fault(f"{name}/{key}", "no entry of the ledger names this row")
            else:
                _compare(spec.table, key, row, salt if spec.salted else None, stated, found)
        for key in expected:
            found.fault(f"{name}/{key}", "the ledger names this row, and it is gone")


def check_rooted(connection: Connection, named: Named, found: Findings) -> None:
    """Recompute each small row's commitment and the root that their owner's entry holds."""
    running = set(
        connection.execute(
            select(evaluations.c.evaluation_id).where(evaluations.c.state == "running")
        ).scalars()
    )
    for name, spec in ROOTED.items():
        roots = named.roots.get(name, {})
        unseen = dict(named.rows.pop(name, {}))
        rows = _with_salts(connection, spec.table, salted=True, order=(spec.owner_key, "position"))
        for owner, group in groupby(rows, key=lambda pair: str(pair[0][spec.owner_key])):
            leaves = [_leaf(spec, row, salt, unseen, found) for row, salt in group]
            where = f"{spec.owner.name}/{owner}"
            bound = roots.pop(owner, None)
            if bound is None:
                if owner not in running:
                    found.fault(where, f"no entry binds its {len(leaves)} rows of {name}")
            elif len(leaves) != bound[1]:
                found.fault(
                    where, f"it has {len(leaves)} rows of {name}, its entry says {bound[1]}"
                )
            elif "sha256:" + root_of(leaves).hex() != bound[0]:
                found.fault(where, f"its rows of {name} do not lead to the root in its entry")
        for owner, (_, size) in roots.items():
            if size:
                found.fault(
                    f"{spec.owner.name}/{owner}", f"all of its {size} rows of {name} are gone"
                )
        for key in unseen:
            found.fault(f"{name}/{key}", "the ledger names this row, and it is gone")
    for name in named.rows:
        found.fault(name, "the ledger names rows of this table, which binds none")


def check_numbers(connection: Connection, found: Findings) -> None:
    """Check that the numbers of decisions run from 1 on without a gap, up to the last one given."""
    query = select(decisions.c.number).order_by(decisions.c.number)
    reached = 0
    for number in connection.execute(query.execution_options(yield_per=10_000)).scalars():
        if number != reached + 1:
            lost = f"{reached + 1}" if number == reached + 2 else f"{reached + 1} to {number - 1}"
            found.fault(f"decisions/number {reached + 1}", f"the decisions {lost} are missing")
        reached = number
    last = connection.execute(
        select(sequences.c.value).where(sequences.c.name == "decisions")
    ).scalar()
    if (last or 0) != reached:
        found.fault("sequences/decisions", f"it stands at {last}, the last decision is {reached}")


def check_erasures(connection: Connection, named: Named, found: Findings) -> None:
    """Check that exactly the items which an erasure names have lost salt and subjects."""
    query = (
        select(items.c.item_id, items.c.erased_at, *salts.columns)
        .select_from(items.outerjoin(salts, items.c.item_id == salts.c.item_id))
        .execution_options(yield_per=5000)
    )
    for item_id, erased_at, salted, salt, destroyed_at in connection.execute(query):
        erased = item_id in named.erased
        if salted is None:
            found.fault(f"salts/{item_id}", "the salt of this item has no row")
        elif salt is None and not erased:
            found.fault(f"salts/{item_id}", "the salt was destroyed, and no erasure names the item")
        elif salt is not None and erased:
            found.fault(f"salts/{item_id}", "the item was erased, and its salt is there")
        if (destroyed_at is None) != (salt is not None) and salted is not None:
            found.fault(f"salts/{item_id}", f"destroyed_at is {destroyed_at!r} against the salt")
        if (erased_at is not None) != erased:
            found.fault(f"items/{item_id}", f"erased_at is {erased_at!r} against the ledger")
    strays = select(salts.c.item_id).where(salts.c.item_id.not_in(select(items.c.item_id)))
    for item_id in connection.execute(strays).scalars():
        found.fault(f"salts/{item_id}", "there is no such item")
    told = (
        select(item_subjects.c.item_id)
        .join(items, items.c.item_id == item_subjects.c.item_id)
        .where(items.c.erased_at.is_not(None))
    )
    for item_id in connection.execute(told.distinct()).scalars():
        found.fault(f"item_subjects/{item_id}", "the item was erased, and its subjects are there")
    found.count("erased items", len(named.erased))


def _with_salts(
    connection: Connection, table: Table, *, salted: bool, order: tuple[str, ...] = ()
) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Yield each row with the salt of its item, None where there is none."""
    columns: list[Any] = [*table.columns, literal(None).label(_SALT)]
    query: Select[Any] = select(*columns)
    if salted:
        joined = table.outerjoin(salts, table.c.item_id == salts.c.item_id)
        query = select(*columns[:-1], salts.c.salt.label(_SALT)).select_from(joined)
    query = query.order_by(*(table.c[name] for name in order))
    names = [column.name for column in table.columns]
    values: tuple[Any, ...]
    for values in connection.execute(query.execution_options(yield_per=2000)):
        salt = values[-1]
        # The salt stands last and has no name of its own, so that zip leaves it out.
        yield dict(zip(names, values, strict=False)), None if salt is None else bytes(salt)


def _compare(
    table: Table,
    key: str,
    row: dict[str, Any],
    salt: bytes | None,
    stated: bytes,
    found: Findings,
) -> None:
    """Compare one row with its last commitment: under its salt, or in the open after erasure."""
    where = f"{table.name}/{key}"
    in_the_open = stated[:1] == b"s"
    erased = in_the_open and "item_id" in row
    if erased and (told := left_over(table, row)):
        found.fault(where, f"the item was erased, and {', '.join(told)} is still there")
    if not in_the_open and salt is None:
        found.fault(where, "it cannot be checked: the salt of its item is gone")
        return
    try:
        actual = digest(row) if in_the_open or salt is None else commit(salt, row)
    except InputError as error:
        found.fault(where, f"it holds what no record may hold: {error.message}")
        return
    if bytes.fromhex(actual.partition(":")[2]) != stated[1:]:
        found.fault(where, _what_differs(row))


def _what_differs(row: dict[str, Any]) -> str:
    said = f"entry {row['entry_id']}" if row.get("entry_id") else "the ledger"
    return f"its columns are not what {said} committed to"


def _leaf(
    spec: Rooted,
    row: dict[str, Any],
    salt: bytes | None,
    named: dict[str, bytes],
    found: Findings,
) -> bytes:
    """Check one small row by itself; return its leaf under the owner's root."""
    table = spec.table
    key = row_key([column.name for column in table.primary_key], row)
    found.count("rows")
    stated = named.pop(key, None)
    if stated is not None:
        _compare(table, key, row, salt, stated, found)
    elif salt is None:
        found.fault(f"{table.name}/{key}", "it cannot be checked: the salt of its item is gone")
    else:
        _recompute(table, key, row, salt, found)
    return leaf_hash(str(row["commitment"]).encode())


def _recompute(table: Table, key: str, row: dict[str, Any], salt: bytes, found: Findings) -> None:
    try:
        if small_row_commitment(table, row, salt) == row["commitment"]:
            return
    except InputError as error:
        found.fault(f"{table.name}/{key}", f"it holds what no record may hold: {error.message}")
        return
    found.fault(f"{table.name}/{key}", "its columns are not what its commitment says")
