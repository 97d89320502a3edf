"""Ledger entries: the one way in which anything that matters is written down.

A change of state and its entry are one transaction. An `Entry` collects the rows it writes, binds
each by a commitment, and puts its canonical bytes into ``ledger_pending``; `sequencer.publish`
gives them their place in the log afterwards. No digest of personal content stands in an entry: rows
that concern an item are committed to under the item's salt, which erasure destroys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, and_, insert, select, update

from freehold.canonical.json import commit, digest, encode
from freehold.canonical.merkle import leaf_hash, root_of
from freehold.errors import IntegrityError, NotFound
from freehold.lab.opened import Lab
from freehold.lab.schema import COMMITTED, ROOTED, SCHEMA_VERSION, ledger_pending, salts
from freehold.records.clock import now
from freehold.records.ids import new_id

ENTRY_FORMAT = "freehold-entry/1"
MAX_ENTRY_BYTES = 65_535  # tlog-tiles gives an entry's length two bytes
SYSTEM = "system"  # the actor when no person asked: a resumed job, a scheduled check

Row = dict[str, Any]


class Salts:
    """The salts of items, read once for each item in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, bytes | None] = {}

    def learn(self, known: Mapping[str, bytes]) -> None:
        """Take salts that the caller has just made or read."""
        self._known.update(known)

    def fetch(self, item_ids: Iterable[str]) -> None:
        """Read the salts of many items in one query."""
        wanted = [item for item in item_ids if item not in self._known]
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            rows = self._connection.execute(
                select(salts.c.item_id, salts.c.salt).where(salts.c.item_id.in_(part))
            )
            self._known.update({row.item_id: row.salt for row in rows})

    def get(self, item_id: str) -> bytes | None:
        """Return an item's salt, or None when it was destroyed. Raises NotFound without a row."""
        if item_id not in self._known:
            self.fetch([item_id])
        if item_id not in self._known:
            raise NotFound(f"no item {item_id}")
        salt = self._known[item_id]
        return None if salt is None else bytes(salt)


class Entry:
    """One entry in the making. Close it in the transaction in which its rows were written.

    ::

        with lab.writing() as connection:
            entry = Entry(lab, connection, "task.added", actor, {"task": name})
            entry.insert(contracts, {...})
            entry.close()
    """

    def __init__(
        self,
        lab: Lab,
        connection: Connection,
        kind: str,
        actor: str,
        body: Mapping[str, Any] | None = None,
        *,
        salts: Salts | None = None,
    ) -> None:
        self.id = new_id("ent")
        self.connection = connection
        self.salts = salts or Salts(connection)
        self._head = {"format": ENTRY_FORMAT, "origin": lab.origin, "entry_id": self.id}
        self._head |= {"kind": kind, "actor": actor, "at": now()}
        self._body: dict[str, Any] = dict(body or {})
        self._rows: dict[str, dict[str, str]] = {}
        self._roots: dict[str, dict[str, Any]] = {}

    @property
    def at(self) -> str:
        """The time the entry carries; rows it writes use the same."""
        return str(self._head["at"])

    def note(self, **facts: Any) -> None:
        """Add facts to the entry's body. Nothing personal, no floats."""
        self._body.update(facts)

    def insert(self, table: Table, row: Row) -> Row:
        """Insert one row and bind it. Returns the row with every column."""
        return self.insert_many(table, [row])[0]

    def insert_many(self, table: Table, rows: Sequence[Row]) -> list[Row]:
        """Insert rows of one table and bind each of them."""
        if not rows:
            return []
        complete = [self._complete(table, row) for row in rows]
        self.connection.execute(insert(table), complete)
        self.bind(table, complete)
        return complete

    def update(self, table: Table, key: Mapping[str, Any], changes: Row) -> Row:
        """Change one row and bind its new state, which replaces the old commitment."""
        condition = and_(*(table.c[name] == value for name, value in key.items()))
        self.connection.execute(update(table).where(condition).values(**changes, entry_id=self.id))
        row = self.connection.execute(select(table).where(condition)).mappings().first()
        if row is None:
            raise NotFound(f"no row of {table.name} with {dict(key)}")
        complete = dict(row)
        self.bind(table, [complete])
        return complete

    def bind_root(self, table: Table, owner_id: str, commitments: Sequence[str]) -> str:
        """Bind many small rows by the Merkle root over their commitments; return the root."""
        root = root_over(commitments)
        self._roots.setdefault(table.name, {})[owner_id] = {"root": root, "size": len(commitments)}
        return root

    def close(self) -> str:
        """Append the entry to what the sequencer will publish; return its id."""
        append_all(self.connection, [self])
        return self.id

    def finished(self) -> bytes:
        """Return the entry's canonical bytes. Raises IntegrityError when they are too many."""
        record = {**self._head, "body": self._body, "rows": self._rows, "roots": self._roots}
        data = encode(record)
        if len(data) > MAX_ENTRY_BYTES:
            raise IntegrityError(
                f"entry {self._head['kind']} has {len(data)} bytes; at most {MAX_ENTRY_BYTES} fit",
                hint="This is a defect: the caller must spread its rows over several entries.",
            )
        return data

    def _complete(self, table: Table, row: Row) -> Row:
        complete: Row = {column.name: None for column in table.columns} | row
        if "entry_id" in complete:
            complete["entry_id"] = self.id
        if "schema_version" in complete and complete["schema_version"] is None:
            complete["schema_version"] = SCHEMA_VERSION
        return complete

    def bind(self, table: Table, rows: Sequence[Row]) -> None:
        """Bind complete rows that the caller writes itself, many at once, in this transaction.

        Each carries this entry's id in ``entry_id``.
        """
        spec = COMMITTED[table.name]
        bound = self._rows.setdefault(table.name, {})
        if spec.salted:
            self.salts.fetch(str(row["item_id"]) for row in rows)
        for row in rows:
            bound[row_key(spec.key, row)] = row_commitment(table, row, self.salts)

    def bind_emptied(self, table: Table, rows: Sequence[Row]) -> None:
        """Bind what erasure left of rows about erased items: in the open, for no salt is left.

        Only an entry of kind `emptied.ERASED` that names the items may do so; `verify_lab` checks.
        """
        key = [column.name for column in table.primary_key]
        bound = self._rows.setdefault(table.name, {})
        bound.update({row_key(key, row): digest(dict(row)) for row in rows})


def append_all(connection: Connection, entries: Sequence[Entry]) -> None:
    """Append entries, in this order, to what the sequencer will publish."""
    rows = [{"entry_id": entry.id, "bytes": entry.finished()} for entry in entries]
    if rows:
        connection.execute(insert(ledger_pending), rows)


def row_key(key: Sequence[str], row: Mapping[str, Any]) -> str:
    """Return how an entry names a row: its primary key, parts joined by '/'."""
    return "/".join(str(row[name]) for name in key)


def row_commitment(table: Table, row: Mapping[str, Any], known: Salts) -> str:
    """Return the commitment over all columns of a row of a committed table.

    Under the item's salt where the row concerns an item. Raises IntegrityError when that salt has
    been destroyed: nothing new may be said about an erased item.
    """
    value = _plain(row)
    if not COMMITTED[table.name].salted:
        return digest(value)
    salt = known.get(str(row["item_id"]))
    if salt is None:
        raise IntegrityError(f"item {row['item_id']} was erased; no new record may name it")
    return commit(salt, value)


def small_row_commitment(table: Table, row: Mapping[str, Any], salt: bytes) -> str:
    """Return the commitment of a row of a rooted table: all its columns but the commitment."""
    if table.name not in ROOTED:
        raise IntegrityError(f"{table.name} is not a table of rooted rows")
    value = _plain(row)
    value.pop("commitment", None)
    return commit(salt, value)


def _plain(row: Mapping[str, Any]) -> Row:
    # SQLAlchemy names columns by a subclass of str, which the fast encoder does not take.
    return {str(name): value for name, value in row.items()}


def root_over(commitments: Sequence[str]) -> str:
    """Return the RFC 6962 root over commitments, each a leaf as its ASCII bytes."""
    return "sha256:" + root_of([leaf_hash(text.encode("ascii")) for text in commitments]).hex()
