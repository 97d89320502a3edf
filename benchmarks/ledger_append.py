"""Durable appends to the ledger against plain inserts of the same bytes into SQLite.

    python benchmarks/ledger_append.py [--quick] [--rounds 3]

Entries of 580 bytes, in transactions of 1, 10, 100 and 1,000. Every side commits with
``synchronous=FULL`` in WAL mode, so a batch is on the disk when the call returns:

recorded             entries made (canonical JSON) and committed: what a decision waits for before
                     it counts as recorded; it stands in the log's queue, in order.
+ published at end   the same, and one `publish` after the last batch: places in the log, Merkle
                     frontier, signed head, tiles and checkpoint files, flushed. What a run does.
+ published each     the same, and `publish` after every batch: the dearest way there is.
plain inserts        the same bytes into a table of the same form by Python's sqlite3. No proof.

The aim is what a prototype, a single table with a signed head per batch, reached on such a machine
when nothing else ran: 20,000 entries a second in batches of 100 and 46,000 in batches of 1,000.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import _sheet as sheet
from sqlalchemy import Connection

from freehold.evidence.entries import SYSTEM, Entry, append_all
from freehold.evidence.founding import found_lab
from freehold.evidence.sequencer import publish
from freehold.lab import Lab

ENTRY_BYTES = 580
COUNTS = {1: 300, 10: 2_000, 100: 10_000, 1_000: 20_000}
PROTOTYPE = {100: 20_000, 1_000: 46_000}
RECORDED, PLAIN = "recorded", "plain inserts"
AT_END, EACH = "+ published at end", "+ published each"


@dataclass
class Bench:
    """A lab and a plain database on one disk."""

    folder: Path
    lab: Lab = field(init=False)
    plain: sqlite3.Connection = field(init=False)
    number: int = 0
    filler: str = ""

    def __post_init__(self) -> None:
        self.lab = found_lab(self.folder / "lab")
        self.plain = sqlite3.connect(self.folder / "plain.sqlite", isolation_level=None)
        for setting in ("journal_mode=WAL", "synchronous=FULL"):
            self.plain.execute(f"PRAGMA {setting}")
        self.plain.execute(
            "CREATE TABLE entries (seq INTEGER PRIMARY KEY, entry_id TEXT UNIQUE, bytes BLOB)"
        )
        with self.lab.writing() as connection:
            short = len(self.entries(connection, 1)[0].finished())
        self.filler = "x" * (ENTRY_BYTES - short)
        publish(self.lab)

    def entries(self, connection: Connection, count: int) -> list[Entry]:
        """Make entries as long as the receipt of a decision."""
        made = []
        for _ in range(count):
            self.number += 1
            body = {"decision_id": f"dec_{self.number:026d}", "filler": self.filler}
            made.append(Entry(self.lab, connection, "decision.answered", SYSTEM, body))
        return made

    def ours(self, count: int, size: int, side: str) -> None:
        """Append entries in batches and publish them as the side says."""
        for part in batches(count, size):
            with self.lab.writing() as connection:
                append_all(connection, self.entries(connection, part))
            if side == EACH:
                publish(self.lab)
        if side == AT_END:
            publish(self.lab)

    def plainly(self, rows: Sequence[tuple[str, bytes]], size: int) -> None:
        """Insert rows that are ready, in batches."""
        for start in range(0, len(rows), size):
            self.plain.execute("BEGIN IMMEDIATE")
            self.plain.executemany(
                "INSERT INTO entries (entry_id, bytes) VALUES (?, ?)", rows[start : start + size]
            )
            self.plain.execute("COMMIT")

    def ready(self, count: int) -> list[tuple[str, bytes]]:
        """Return the bytes of as many entries."""
        with self.lab.reading() as connection:
            return [(one.id, one.finished()) for one in self.entries(connection, count)]


def batches(count: int, size: int) -> Iterator[int]:
    for start in range(0, count, size):
        yield min(size, count - start)


def compare(bench: Bench, size: int, count: int, rounds: int) -> None:
    """Print what every side does in batches of one size."""
    times = {side: sheet.Times() for side in (RECORDED, AT_END, EACH, PLAIN)}
    for _ in range(rounds):
        for side, one in times.items():
            rows = bench.ready(count) if side == PLAIN else []
            if side == PLAIN:
                sheet.measure(one, lambda rows=rows: bench.plainly(rows, size))
            else:
                sheet.measure(one, lambda side=side: bench.ours(count, size, side))
            publish(bench.lab)  # what `recorded` left in the queue is not the next side's work
    print(f"\nbatches of {size:,}: {count:,} entries of {ENTRY_BYTES} bytes")
    sheet.table(times, count, "entries")
    for side in (RECORDED, AT_END, EACH):
        sheet.ratio(f"plain inserts to {side}", times[PLAIN], times[side])
    if size in PROTOTYPE:
        for side in (RECORDED, AT_END):
            rate = count / sheet.median(times[side].wall)
            print(f"  aim:   {PROTOTYPE[size]:,} entries/s ({side}): {rate:,.0f}, "
                  f"{sheet.verdict(rate / PROTOTYPE[size], 1)}")  # fmt: skip


def main() -> None:
    parser = sheet.options(__doc__, rounds=(3, 2, "rounds of each side"))
    asked = sheet.read(parser)
    sheet.title("Appends to the ledger, each batch durable, against plain SQLite inserts")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for size, count in COUNTS.items():
            compare(bench, size, count // 4 if asked.quick else count, asked.rounds)
        bench.lab.close()


if __name__ == "__main__":
    main()
