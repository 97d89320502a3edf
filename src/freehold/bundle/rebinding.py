"""Binding every row of a restored lab to its new log: no row may stand there on trust.

Rows are bound as they are, in batches, by entries of kind ``lab.restored``. What an erasure left of
a row is bound in the open by an ``item.erased`` entry, as the erasure itself did. Models are signed
again, for the old lab's key did not come along; keys of people are put on record again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Table, and_, bindparam, insert, select, update

from freehold.canonical.json import decode
from freehold.evidence.emptied import ERASED
from freehold.evidence.entries import SYSTEM, Entry
from freehold.evidence.keys import model_key
from freehold.lab.opened import Lab
from freehold.lab.schema import COMMITTED, ROOTED, Rooted, items, models, objects, principals
from freehold.models.manifest import Manifest
from freehold.models.oms import sign_manifest
from freehold.records.clock import now

RESTORED: Final = "lab.restored"
_ROWS_PER_ENTRY: Final = 200
_ITEMS_PER_ENTRY: Final = 10

Row = dict[str, Any]


class Rebinding:
    """Binds every committed and rooted row of a lab that was just filled from a bundle."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        with lab.reading() as connection:
            gone = select(items.c.item_id).where(items.c.erased_at.is_not(None))
            listed = connection.execute(gone.order_by(items.c.item_id)).scalars()
            self._erased = [str(one) for one in listed]

    def rebind_all(self) -> None:
        """Bind everything; afterwards `verify_lab` holds once the entries are published."""
        self._sign_models()
        self._state_keys()
        erased = set(self._erased)
        for spec in COMMITTED.values():
            for batch in self._stream(spec.table):
                self._bind(spec.table, [row for row in batch if row.get("item_id") not in erased])
        for rooted in ROOTED.values():
            self._bind_roots(rooted)
        for some in _batches(self._erased, _ITEMS_PER_ENTRY):
            self._bind_erased(some)

    def _bind(self, table: Table, rows: Sequence[Row]) -> None:
        if not rows:
            return
        with self._lab.writing() as connection:
            facts = {"table": table.name, "rows": len(rows)}
            entry = Entry(self._lab, connection, RESTORED, SYSTEM, facts)
            self._name_entry(entry, table, rows)
            entry.bind(table, [row | {"entry_id": entry.id} for row in rows])
            entry.close()

    def _bind_roots(self, rooted: Rooted) -> None:
        table = rooted.table
        query = select(table.c[rooted.owner_key], table.c.commitment)
        with self._lab.reading() as connection:
            found = connection.execute(query.order_by(*table.primary_key.columns)).all()
        owners: dict[str, list[str]] = {}
        for owner, commitment in found:
            owners.setdefault(str(owner), []).append(str(commitment))
        for some in _batches(sorted(owners), _ROWS_PER_ENTRY):
            with self._lab.writing() as connection:
                entry = Entry(self._lab, connection, RESTORED, SYSTEM, {"table": table.name})
                for owner in some:
                    entry.bind_root(table, owner, owners[owner])
                entry.close()

    def _bind_erased(self, item_ids: Sequence[str]) -> None:
        """Bind what is left of the rows of some erased items, over as many entries as it takes."""
        tables = [spec.table for spec in COMMITTED.values() if spec.salted]
        tables += [rooted.table for rooted in ROOTED.values()]
        waiting = [
            (table, row)
            for table in tables
            for row in self._rows(table, table.c.item_id.in_(item_ids))
        ]
        for batch in _batches(waiting, _ROWS_PER_ENTRY):
            with self._lab.writing() as connection:
                facts = {"item_ids": list(item_ids), "restored": True}
                entry = Entry(self._lab, connection, ERASED, SYSTEM, facts)
                for table in tables:
                    self._bind_open(entry, table, [row for one, row in batch if one is table])
                entry.close()

    def _bind_open(self, entry: Entry, table: Table, rows: Sequence[Row]) -> None:
        if not rows:
            return
        if "entry_id" in table.columns:
            self._name_entry(entry, table, rows)
            rows = [row | {"entry_id": entry.id} for row in rows]
        entry.bind_emptied(table, rows)

    def _name_entry(self, entry: Entry, table: Table, rows: Sequence[Row]) -> None:
        keys = [column.name for column in table.primary_key]
        matches = and_(*(table.c[name] == bindparam(f"key_{name}") for name in keys))
        wanted = [{f"key_{name}": row[name] for name in keys} for row in rows]
        entry.connection.execute(update(table).where(matches).values(entry_id=entry.id), wanted)

    def _rows(self, table: Table, *conditions: Any) -> list[Row]:
        query = select(table).where(*conditions).order_by(*table.primary_key.columns)
        with self._lab.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _stream(self, table: Table) -> Iterator[list[Row]]:
        """Yield a table's rows in batches, as they were when the first was read."""
        query = select(table).order_by(*table.primary_key.columns)
        with self._lab.reading() as connection:
            streaming = connection.execution_options(yield_per=_ROWS_PER_ENTRY)
            found = streaming.execute(query).mappings()
            for some in found.partitions(_ROWS_PER_ENTRY):
                yield [dict(row) for row in some]

    def _sign_models(self) -> None:
        """Sign each model by the new key, and keep the new signatures as objects."""
        key = model_key(self._lab)
        for row in self._rows(models, models.c.signature_object.is_not(None)):
            manifest = Manifest.from_record(decode(row["manifest"]))
            signature = sign_manifest(manifest, key, name=str(row["name"]))
            name = self._lab.objects.put(signature)
            # Bound with all other rows of their tables, right after this.
            kept = {"digest": name, "size": len(signature), "purpose": "model signature"}
            kept |= {"media_type": "application/octet-stream", "created_at": now(), "entry_id": ""}
            with self._lab.writing() as connection:
                connection.execute(insert(objects).values(**kept))
                of_this = models.c.model_digest == row["model_digest"]
                connection.execute(update(models).where(of_this).values(signature_object=name))

    def _state_keys(self) -> None:
        """Put the public keys of people on record, so that their signatures can be checked."""
        for row in self._rows(principals, principals.c.public_key.is_not(None)):
            body = {name: row[name] for name in ("principal_id", "public_key")}
            with self._lab.writing() as connection:
                facts = body | {"restored": True}
                Entry(self._lab, connection, "person.key_added", SYSTEM, facts).close()


def _batches(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
