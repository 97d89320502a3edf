"""Rows of a file become items: each once, with its salt, its payload and its split.

An item is named by (source, external id). The same row again is the same item; another text under
the same name is a bad row, because items are never edited. Rows are written in batches of
`BATCH`, each one transaction with its ledger entries, so that a kill loses at most the batch that
was being written, and running again goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy import Table as SqlTable
from sqlalchemy.exc import IntegrityError as RowExists

from freehold.canonical.json import commit_bytes, encode_text
from freehold.errors import Conflict, InputError
from freehold.evidence.entries import Entry, Salts
from freehold.lab.opened import Lab
from freehold.lab.schema import item_subjects, items, payloads, salts, split_assignments
from freehold.records.ids import new_id
from freehold.tabular import BadRow, Table
from freehold.tasks.contract import register_task
from freehold.tasks.definition import Task
from freehold.tasks.splits import Assigned, Placing, assign, normalised, require_same
from freehold.workflows.items import split_of, text_commitment
from freehold.workflows.rows import Incoming, IngestOptions, RowReader, file_source

BATCH = 200
_SALT_BYTES = 32
_RACES = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Ingested:
    """One row's item."""

    line: int
    item_id: str
    new: bool


@dataclass(frozen=True)
class IngestReport:
    """What a file gave. `rows` are in the file's order; `bad_rows` were left out, each named."""

    source: str
    columns: dict[str, str]
    rows: tuple[Ingested, ...]
    bad_rows: tuple[BadRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def item_ids(self) -> list[str]:
        """The items in the file's order."""
        return [row.item_id for row in self.rows]

    @property
    def added(self) -> int:
        """How many items are new."""
        return sum(row.new for row in self.rows)


def ingest(
    lab: Lab,
    task: Task,
    table: Table,
    *,
    actor: str,
    options: IngestOptions | None = None,
    on_progress: Progress | None = None,
) -> IngestReport:
    """Take a file's rows in as items of a task and return what became of each row.

    Bad rows are reported by line and field and the rest goes in; with ``options.strict`` the whole
    file is checked first, and the first bad row is raised as RowError before anything is written.
    `on_progress` gets (rows read, 0): how many there are is known at the end of a file only.
    """
    chosen = options or IngestOptions()
    reader = RowReader(task, table, chosen)
    with lab.writing() as connection:
        register_task(lab, connection, task, actor)
    intake = _Intake(lab, task, actor, chosen.source or _source(lab, reader))
    if chosen.strict:
        _check_all(intake, reader)
    rows: list[Ingested] = []
    bad: list[BadRow] = []
    for batch in _batches(reader):
        taken, faults = intake.take([one for one in batch if isinstance(one, Incoming)])
        rows += taken
        bad += [one for one in batch if isinstance(one, BadRow)] + faults
        if chosen.strict and bad:
            raise bad[0].error(table.path)
        if on_progress is not None:
            on_progress(len(rows) + len(bad), 0)
    if not rows and not bad:
        raise InputError(
            f"{table.path.name}: no rows after the header",
            hint="The first line names the columns; the rows follow.",
            file=str(table.path),
        )
    bad.sort(key=lambda one: one.line)
    return IngestReport(
        intake.source, dict(reader.columns.names), tuple(rows), tuple(bad), table.notes
    )


def _source(lab: Lab, reader: RowReader) -> str:
    # Ids of the file's own name an item whatever else the file holds; lines only within this file.
    path: Path = reader.table.path
    return path.name if reader.has_ids else file_source(lab, path)


def _batches(reader: Iterable[Incoming | BadRow]) -> Iterator[list[Incoming | BadRow]]:
    rows = iter(reader)
    while batch := list(islice(rows, BATCH)):
        yield batch


def _check_all(intake: _Intake, reader: RowReader) -> None:
    for batch in _batches(reader):
        for one in batch:
            if isinstance(one, BadRow):
                raise one.error(reader.table.path)
        incoming = [one for one in batch if isinstance(one, Incoming)]
        with intake.lab.reading() as connection:
            faults = intake.compare(connection, incoming)[1]
        if faults:
            raise faults[0].error(reader.table.path)


class _Intake:
    """Takes batches of rows of one source into one lab, for one task."""

    def __init__(self, lab: Lab, task: Task, actor: str, source: str) -> None:
        self.lab = lab
        self.task = task
        self.actor = actor
        self.source = source
        self._keys: dict[tuple[str, str], str] = {}
        self._dev = lab.settings.number("split.dev_percent")
        self._test = lab.settings.number("split.test_percent")

    def take(self, rows: Sequence[Incoming]) -> tuple[list[Ingested], list[BadRow]]:
        """Write what is new of one batch, in one transaction."""
        self._keys.clear()  # a batch asks for each several times; a file may hold millions
        for attempt in range(_RACES):
            try:
                with self.lab.writing() as connection:
                    return self._take(connection, rows)
            except RowExists:
                # Another process took in the same rows just now: look again, and find them.
                if attempt == _RACES - 1:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def compare(
        self, connection: Connection, rows: Sequence[Incoming]
    ) -> tuple[dict[int, str], list[BadRow]]:
        """Return the items that rows (by line) are already, and the rows that contradict them."""
        names = [row.external_id for row in rows]
        found = {
            row.external_id: row
            for row in connection.execute(
                select(items.c.external_id, items.c.item_id, items.c.parts, salts.c.salt)
                .join(salts, salts.c.item_id == items.c.item_id)
                .where(items.c.source == self.source, items.c.external_id.in_(names))
            )
        }
        known = {row.line: found[row.external_id] for row in rows if row.external_id in found}
        splits = split_of(connection, self.task.name, [one.item_id for one in known.values()])
        same: dict[int, str] = {}
        faults: list[BadRow] = []
        for row in rows:
            try:
                assigned = self._assigned(row)
                before = known.get(row.line)
                if before is None:
                    continue
                _require_same_text(row, before)
                if row.split is not None:
                    # A rule decides once; only a file that says otherwise contradicts it.
                    was = splits.get(before.item_id, assigned.split)
                    require_same(before.item_id, was, assigned.split)
                same[row.line] = before.item_id
            except (InputError, Conflict) as error:
                faults.append(BadRow(row.line, None, error.message))
        return same, faults

    def _take(
        self, connection: Connection, rows: Sequence[Incoming]
    ) -> tuple[list[Ingested], list[BadRow]]:
        same, faults = self.compare(connection, rows)
        refused = {fault.line for fault in faults}
        good = [row for row in rows if row.line not in refused]
        new = {row.line: new_id("itm") for row in good if row.line not in same}
        known_salts = Salts(connection)
        fresh = {item_id: secrets.token_bytes(_SALT_BYTES) for item_id in new.values()}
        known_salts.learn(fresh)
        self._write_items(connection, [row for row in good if row.line in new], new, known_salts)
        self._write_splits(connection, good, same | new, known_salts)
        taken = [Ingested(row.line, (same | new)[row.line], row.line in new) for row in good]
        return taken, faults

    def _write_items(
        self,
        connection: Connection,
        rows: Sequence[Incoming],
        named: dict[int, str],
        known_salts: Salts,
    ) -> None:
        if not rows:
            return
        parts, bodies, subjects = [], [], []
        for row in rows:
            item_id = named[row.line]
            salt = known_salts.get(item_id) or b""
            body = self.lab.payloads.prepare(item_id, "text/plain", row.text.encode(), salt)
            bodies.append(body)
            parts.append(_parts(body))
            subjects += [
                {"item_id": item_id, "subject_key": self._key(name, "subject")}
                for name in row.subjects
            ]
        made = [{"item_id": one, "salt": known_salts.get(one)} for one in named.values()]
        _insert(connection, salts, made)
        _insert(connection, payloads, bodies)
        _insert(connection, item_subjects, subjects)
        body = {"task": self.task.name, "count": len(rows)}
        entry = Entry(self.lab, connection, "items.taken_in", self.actor, body, salts=known_salts)
        records = [
            self._record(row, named[row.line], p) for row, p in zip(rows, parts, strict=True)
        ]
        entry.insert_many(items, [record | {"created_at": entry.at} for record in records])
        entry.close()

    def _record(self, row: Incoming, item_id: str, parts: str) -> dict[str, Any]:
        entity = None if row.entity is None else self._key(row.entity, "entity")
        return {
            "item_id": item_id,
            "source": self.source,
            "external_id": row.external_id,
            "parts": parts,
            "licence": row.licence,
            "consent_basis": row.consent,
            "retention": row.retention,
            "sensitivity": row.sensitivity,
            "entity_key": entity,
            "event_time": row.event_time,
            "attributes": encode_text(row.attributes),
        }

    def _write_splits(
        self,
        connection: Connection,
        rows: Sequence[Incoming],
        named: dict[int, str],
        known_salts: Salts,
    ) -> None:
        task = self.task.name
        placed = split_of(connection, task, named.values())
        missing = [row for row in rows if named[row.line] not in placed]
        if not missing:
            return
        entry = Entry(
            self.lab, connection, "splits.assigned", self.actor, {"task": task}, salts=known_salts
        )
        records = []
        for row in missing:
            assigned = self._assigned(row)
            records.append(
                {
                    "item_id": named[row.line],
                    "task": task,
                    "split": assigned.split,
                    "rule": assigned.rule,
                    "group_key": assigned.group_key,
                    "created_at": entry.at,
                }
            )
        entry.insert_many(split_assignments, records)
        entry.close()

    def _key(self, name: str, purpose: str) -> str:
        found = self._keys.get((name, purpose))
        if found is None:
            found = self._keys[name, purpose] = self.lab.index_key(name, purpose)
        return found

    def _assigned(self, row: Incoming) -> Assigned:
        if self.task.split.rule == "group":
            if row.group is None:
                raise InputError(f"no value in {self.task.split.group!r}, which splits the task")
            key = self._key(row.group, "entity")
        elif row.entity is not None:
            key = self._key(row.entity, "entity")
        else:
            key = self._key(normalised(row.text), "text")
        placing = Placing(key, row.split, row.event_time)
        return assign(self.task.split, placing, dev_percent=self._dev, test_percent=self._test)


def _require_same_text(row: Incoming, before: Any) -> None:
    if before.salt is None:
        raise Conflict(f"item {before.item_id} was erased and is not taken in again")
    if commit_bytes(bytes(before.salt), row.text.encode()) != text_commitment(before.parts):
        raise Conflict(
            f"id {row.external_id!r} was taken in before with another text ({before.item_id}); "
            "name another source, or give the corrected row an id of its own"
        )


def _parts(body: dict[str, Any]) -> str:
    part = {"name": "text", "media_type": body["media_type"]}
    return encode_text(
        [part | {"payload_id": body["payload_id"], "commitment": body["commitment"]}]
    )


def _insert(connection: Connection, table: SqlTable, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), list(rows))
