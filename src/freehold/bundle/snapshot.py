"""One moment of a lab: a transaction that sees everything up to a signed head, and nothing after.

Whatever goes into a bundle is read from here, so that tables, ledger and receipts say the same,
however many processes go on writing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, func, select

from freehold.canonical.json import decode
from freehold.errors import LabBusy
from freehold.evidence.notes import Checkpoint
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import ledger_checkpoints, ledger_entries, ledger_pending

_TRIES = 20
_ENTRIES_AT_ONCE = 5_000

Row = dict[str, Any]


@dataclass
class Snapshot:
    """What a bundle is made from. `task` narrows it to one task; None is the whole lab."""

    lab: Lab
    connection: Connection
    head: Checkpoint
    note: str
    at: str
    payloads: bool = True
    task: str | None = None
    release: str | None = None
    missing: dict[str, str] = field(default_factory=dict)
    _roots: dict[tuple[str, str], str] | None = field(default=None, repr=False)

    def rows(self, table: Table, *conditions: Any) -> list[Row]:
        """Return rows of a table in the order of its key."""
        query = select(table).where(*conditions).order_by(*table.primary_key.columns)
        return [dict(row) for row in self.connection.execute(query).mappings()]

    def of_task(self, table: Table, *conditions: Any) -> list[Row]:
        """Return rows of a table that has a task, those of the chosen one where one is chosen."""
        chosen = () if self.task is None else (table.c.task == self.task,)
        return self.rows(table, *chosen, *conditions)

    def leave_out(self, what: str, why: str) -> None:
        """Note what is not in the bundle; README.txt lists it."""
        self.missing[what] = why

    def entries(self) -> Iterator[bytes]:
        """Yield the ledger's entries up to the head."""
        table = ledger_entries
        for first in range(0, self.head.size, _ENTRIES_AT_ONCE):
            found = self.connection.execute(
                select(table.c.bytes)
                .where(table.c.idx >= first, table.c.idx < first + _ENTRIES_AT_ONCE)
                .order_by(table.c.idx)
            )
            yield from (bytes(row.bytes) for row in found)

    def entry_of_root(self, table: str, owner: str) -> str | None:
        """Return the id of the newest entry that holds the root over an owner's small rows."""
        if self._roots is None:
            self._roots = dict(self._read_roots())
        return self._roots.get((table, owner))

    def _read_roots(self) -> Iterator[tuple[tuple[str, str], str]]:
        for data in self.entries():
            if b'"roots":{}' in data:
                continue  # most entries; parsing a million of them would take minutes
            entry = decode(data)
            for table, owners in entry["roots"].items():
                for owner in owners:
                    yield (table, owner), entry["entry_id"]


@contextmanager
def snapshot(lab: Lab, at: str, **choices: Any) -> Iterator[Snapshot]:
    """Open a transaction in which every entry has its place under the signed head.

    Raises LabBusy where other processes write without a pause.
    """
    for _ in range(_TRIES):
        publish(lab)
        with lab.reading() as connection:
            waiting = connection.execute(select(func.count()).select_from(ledger_pending))
            if waiting.scalar_one():
                continue
            newest = ledger_checkpoints.c.size.desc()
            row = connection.execute(select(ledger_checkpoints).order_by(newest).limit(1)).one()
            head = Checkpoint.parse(row.note)
            yield Snapshot(lab, connection, head, str(row.note), at, **choices)
            return
    raise LabBusy(
        "other processes kept writing, and no moment was found in which the ledger was whole",
        hint="Make the bundle when imports and runs have ended.",
    )
