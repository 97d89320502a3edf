"""The sequencer: gives pending entries their place in the log, signs its head, publishes tiles.

One transaction moves pending entries into the log and stores the new (size, root) with its
signature; the signature is released only after that commit, so the key never signs two histories.
Tiles and the checkpoint file follow. They are derived: after a crash the next call finishes them.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, delete, func, insert, select

from freehold.canonical.json import decode, encode_text
from freehold.canonical.merkle import Frontier, leaf_hash
from freehold.errors import IntegrityError, LabBusy
from freehold.evidence.keys import log_signer
from freehold.evidence.notes import Checkpoint, Signer, sign_note
from freehold.evidence.tiles import TileWriter, rebuild
from freehold.lab.leases import give_back, take
from freehold.lab.opened import Lab
from freehold.lab.schema import ledger_checkpoints, ledger_entries, ledger_pending
from freehold.records.clock import now

BATCH = 1000
LEASE_SECONDS = 30.0
_LEASE = "sequencer"


def publish(lab: Lab, *, patience: float = 30.0) -> int:
    """Publish everything that is pending; return the log's size.

    Raises LabBusy when another process held the sequencer's lease for `patience` seconds, and
    IntegrityError when the published files are ahead of the database (a restored backup).
    """
    signer = log_signer(lab)
    deadline = time.monotonic() + patience
    while True:
        moved = _sequence_batch(lab, signer)
        if moved is None:
            if time.monotonic() > deadline:
                raise LabBusy("another process held the ledger's sequencer for too long")
            time.sleep(0.05)
        elif moved < BATCH:
            break
    return publish_files(lab)


def publish_files(lab: Lab) -> int:
    """Write the tiles and the checkpoint file up to the database's head; return its size."""
    with _only_writer(lab):
        head = latest_checkpoint(lab)
        if head is None:
            return 0
        checkpoint, note = head
        published = _published_size(lab)
        if published > checkpoint.size:
            raise IntegrityError(
                f"the published ledger has {published} entries, the database {checkpoint.size}: "
                "the database is older than what was signed and shown",
                hint="A restored backup cannot go on under the old key: use `bundle restore`.",
            )
        if published < checkpoint.size:
            entries = list(read_entries(lab, published, checkpoint.size))
            TileWriter(lab.layout.ledger).publish(published, entries, note)
        return checkpoint.size


def rebuild_files(lab: Lab) -> int:
    """Make every file under ``ledger/`` again from the database; return the log's size."""
    with _only_writer(lab):
        head = latest_checkpoint(lab)
        if head is None:
            return 0
        checkpoint, note = head
        rebuild(lab.layout.ledger, read_entries(lab, 0, checkpoint.size), note)
        return checkpoint.size


def latest_checkpoint(lab: Lab) -> tuple[Checkpoint, str] | None:
    """Return the newest signed head of the log as (checkpoint, signed note), or None."""
    with lab.reading() as connection:
        row = connection.execute(
            select(ledger_checkpoints.c.note).order_by(ledger_checkpoints.c.size.desc()).limit(1)
        ).first()
    if row is None:
        return None
    return Checkpoint.parse(row.note), str(row.note)


def pending_count(lab: Lab) -> int:
    """Return how many entries wait for their place in the log."""
    with lab.reading() as connection:
        count = connection.execute(select(func.count()).select_from(ledger_pending)).scalar_one()
    return int(count)


def read_entries(lab: Lab, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of entries from `start` up to, but not including, `end`."""
    table = ledger_entries
    for first in range(start, end, 10_000):
        last = min(first + 10_000, end)
        with lab.reading() as connection:
            rows = connection.execute(
                select(table.c.idx, table.c.bytes)
                .where(table.c.idx >= first, table.c.idx < last)
                .order_by(table.c.idx)
            ).all()
        if len(rows) != last - first:
            raise IntegrityError(f"the database lacks ledger entries between {first} and {last}")
        for row in rows:
            yield bytes(row.bytes)


def _sequence_batch(lab: Lab, signer: Signer) -> int | None:
    """Move one batch into the log; return how many, or None while another holds the lease."""
    with lab.writing() as connection:
        lease = take(connection, _LEASE, lab.holder, seconds=LEASE_SECONDS)
        if lease is None:
            return None
        rows = connection.execute(
            select(ledger_pending).order_by(ledger_pending.c.seq).limit(BATCH)
        ).all()
        if rows:
            _append(connection, lab, signer, [(row.entry_id, bytes(row.bytes)) for row in rows])
            taken = [row.seq for row in rows]
            for start in range(0, len(taken), 500):
                part = taken[start : start + 500]
                connection.execute(delete(ledger_pending).where(ledger_pending.c.seq.in_(part)))
        give_back(connection, lease)
        return len(rows)


def _append(
    connection: Connection, lab: Lab, signer: Signer, entries: list[tuple[str, bytes]]
) -> None:
    frontier = _frontier(connection)
    rows = [
        {"idx": frontier.size + place, "entry_id": entry_id, "bytes": data}
        for place, (entry_id, data) in enumerate(entries)
    ]
    connection.execute(insert(ledger_entries), rows)
    grown = frontier.extend([leaf_hash(data) for _, data in entries])
    checkpoint = Checkpoint(lab.origin, grown.size, grown.root())
    connection.execute(
        insert(ledger_checkpoints).values(
            size=grown.size,
            root="sha256:" + checkpoint.root.hex(),
            frontier=encode_text(grown.to_hex()),
            note=sign_note(checkpoint.text(), signer),
            signed_at=now(),
        )
    )


def _frontier(connection: Connection) -> Frontier:
    row = connection.execute(
        select(ledger_checkpoints.c.size, ledger_checkpoints.c.frontier)
        .order_by(ledger_checkpoints.c.size.desc())
        .limit(1)
    ).first()
    return Frontier() if row is None else Frontier.from_hex(row.size, decode(row.frontier))


def _published_size(lab: Lab) -> int:
    path = lab.layout.ledger / "checkpoint"
    if not path.is_file():
        return 0
    return Checkpoint.parse(path.read_text(encoding="utf-8")).size


@contextmanager
def _only_writer(lab: Lab) -> Iterator[None]:
    # A file lock goes with its process: whoever is killed here leaves nothing to clean up.
    with (lab.layout.ledger / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
