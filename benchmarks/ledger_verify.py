"""Verification: a ledger's tiles, and a whole lab row by row, against hashing and no more.

    python benchmarks/ledger_verify.py [--quick] [--entries 1000000] [--rows 100000] [--rounds 3]

Tiles: synthetic entries of 579 bytes are published in a temporary folder, and every tile is checked
again by the library and by the single-file verifier of bundles. Beside them SHA-256 over the same
files, the least that any verification must do, and SHA-256 of each entry, the least in Python. A
prototype recomputed 1,000,000 entries in 6.4 s when nothing else ran.

Lab: `verify_lab` on a lab of made-up items with splits and labels: every entry, signed head, tile,
committed row, payload and object worked out again. Beside it the least that checks every row: each
is read by Python's sqlite3, written as JSON and put through HMAC-SHA-256, and so is each payload.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import _sheet as sheet
from dataset_build import OPTIONS, TEST_ITEMS, fill, made_up_texts

from freehold.bundle.verifier import verify
from freehold.canonical.merkle import Frontier, leaf_hash
from freehold.evidence.entries import SYSTEM
from freehold.evidence.founding import found_lab
from freehold.evidence.notes import Checkpoint, Signer, sign_note
from freehold.evidence.tile_check import check_tiles
from freehold.evidence.tiles import rebuild
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.records.spaces import Choice
from freehold.tasks.contract import register_task, write_task

ENTRY_BYTES = 579
PROTOTYPE_RATE = 1_000_000 / 6.4
ROWS_PER_ITEM = 3  # the item, its split, its label
LIBRARY, SCRIPT = "check_tiles", "verify.py"
FILES, EACH = "SHA-256 over the same files", "SHA-256 of each entry"
LAB, LEAST = "verify_lab", "read and HMAC each row"


def entries(count: int) -> Iterator[bytes]:
    """Yield different entries of 579 bytes."""
    filler = "x" * ENTRY_BYTES
    for number in range(count):
        head = f'{{"entry_id":"ent_{number:026d}","text":"'
        yield f'{head}{filler[: ENTRY_BYTES - len(head) - 2]}"}}'.encode()


def tiles(folder: Path, count: int, rounds: int) -> None:
    """Publish a ledger of `count` entries and print what checking it costs."""
    signer, ledger = Signer.generate("benchmark.example/log"), folder / "ledger"
    frontier = Frontier().extend(leaf_hash(entry) for entry in entries(count))
    head = Checkpoint(signer.verifier.name, count, frontier.root())
    publishing = sheet.Times()
    note = sign_note(head.text(), signer)
    sheet.measure(publishing, lambda: rebuild(ledger, entries(count), note))
    bundles = [file for file in sorted((ledger / "tile/entries").rglob("*")) if file.is_file()]

    def library() -> None:
        check_tiles(ledger, count, frontier.root()).raise_for_faults()

    def script() -> None:
        bundle = verify.Bundle(folder, 3600)
        if verify.Tree(bundle, verify.Head(head.origin, head.size, head.root)).check():
            raise SystemExit("the single-file verifier found a fault")

    def files() -> None:
        for file in bundles:
            hashlib.sha256(file.read_bytes())

    def each() -> None:
        entry = b"x" * ENTRY_BYTES
        for _ in range(count):
            hashlib.sha256(entry).digest()

    times = sheet.take_turns({LIBRARY: library, SCRIPT: script, FILES: files, EACH: each}, rounds)
    print(f"\ntiles: {count:,} entries of {ENTRY_BYTES} bytes")
    sheet.table({"publish (once, durable)": publishing, **times}, count, "entries")
    sheet.ratio(f"{FILES} to {LIBRARY}", times[FILES], times[LIBRARY])
    sheet.ratio(f"{EACH} to {LIBRARY}", times[EACH], times[LIBRARY])
    sheet.ratio(f"{SCRIPT} to {LIBRARY}", times[SCRIPT], times[LIBRARY])
    rate = count / sheet.median(times[LIBRARY].wall)
    print(f"  prototype: {PROTOTYPE_RATE:,.0f} entries/s; here {rate:,.0f}, "
          f"{sheet.verdict(rate / PROTOTYPE_RATE, 1)}")  # fmt: skip


def whole_lab(folder: Path, rows: int, rounds: int) -> None:
    """Fill a lab and print what verifying all of it costs."""
    with found_lab(folder / "lab") as lab:
        task = write_task(lab, "support", Choice(OPTIONS))
        with lab.writing() as connection:
            register_task(lab, connection, task, SYSTEM)
        fill(lab, task, made_up_texts(max(rows // ROWS_PER_ITEM, TEST_ITEMS + 1)))
        checked: dict[str, int] = {}

        def ours() -> None:
            found = verify_lab(lab)
            if found.faults:
                raise SystemExit(f"a lab that nobody touched has faults: {found.faults[:3]}")
            checked.update(found.checked)

        times = sheet.take_turns({LAB: ours, LEAST: lambda: least(lab)}, rounds)
    print("\nlab: " + ", ".join(f"{number:,} {what}" for what, number in checked.items()))
    sheet.table(times, checked["rows"], "rows")
    sheet.ratio(f"{LEAST} to {LAB}", times[LEAST], times[LAB])


def least(lab: Lab) -> None:
    """Read every row of the tables that hold almost all of them, and hash it under a key."""
    key = b"k" * 32
    connection = sqlite3.connect(lab.layout.database)
    for table in ("items", "split_assignments", "labels"):
        for row in connection.execute(f"SELECT * FROM {table}"):
            hmac.digest(key, json.dumps(row).encode(), "sha256")
    for (data,) in connection.execute("SELECT bytes FROM payloads"):
        hmac.digest(key, data, "sha256")
    connection.close()


def main() -> None:
    asked = sheet.read(
        sheet.options(
            __doc__,
            entries=(1_000_000, 50_000, "entries of the ledger"),
            rows=(100_000, 9_000, "rows of the lab"),
            rounds=(3, 2, "rounds of each side"),
        )
    )
    sheet.title("Verification against hashing alone")
    with tempfile.TemporaryDirectory() as folder:
        tiles(Path(folder), asked.entries, asked.rounds)
    with tempfile.TemporaryDirectory() as folder:
        whole_lab(Path(folder), asked.rows, asked.rounds)


if __name__ == "__main__":
    main()
