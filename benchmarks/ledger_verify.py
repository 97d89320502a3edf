"""Verification of a published ledger against plain hashing of the same bytes.

    python benchmarks/ledger_verify.py [ENTRIES]

Makes ENTRIES (default 1,000,000) synthetic entries of 579 bytes, publishes them as tiles in a
temporary folder, and checks every tile again: with the library, and with the single-file verifier
of bundles. Beside it, in the same run: SHA-256 over the very same bundle files, which is the least
that any verification must do, and SHA-256 of each entry alone, the least in pure Python calls.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from freehold.bundle.verifier import verify
from freehold.canonical.merkle import Frontier, leaf_hash
from freehold.evidence.notes import Checkpoint, Signer, sign_note
from freehold.evidence.tile_check import check_tiles
from freehold.evidence.tiles import rebuild

ENTRY_BYTES = 579


def entries(count: int) -> Iterator[bytes]:
    """Yield different entries of 579 bytes."""
    filler = "x" * ENTRY_BYTES
    for number in range(count):
        head = f'{{"entry_id":"ent_{number:026d}","text":"'
        yield f'{head}{filler[: ENTRY_BYTES - len(head) - 2]}"}}'.encode()


def timed(name: str, count: int, work: Callable[[], object]) -> float:
    """Run, print and return the seconds that the work took."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    print(f"{name:44} {seconds:8.2f} s  {count / seconds:12,.0f} entries/s")
    return seconds


def hash_files(files: list[Path]) -> None:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())


def hash_entries(count: int) -> None:
    for entry in entries(count):
        hashlib.sha256(entry).digest()


def main() -> None:
    """Print the measurements and their ratios."""
    count = int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 1_000_000
    signer = Signer.generate("benchmark.example/log")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger"
        frontier = Frontier().extend(leaf_hash(entry) for entry in entries(count))
        head = Checkpoint(signer.verifier.name, count, frontier.root())
        note = sign_note(head.text(), signer)
        timed("publish all tiles (durable)", count, lambda: rebuild(ledger, entries(count), note))
        files = sorted((ledger / "tile/entries").rglob("*"))
        bundles = [file for file in files if file.is_file()]
        making = timed("making the entries alone", count, lambda: sum(1 for _ in entries(count)))
        plain = timed("SHA-256 over the same bytes", count, lambda: hash_files(bundles))
        single = (
            timed("SHA-256 of each entry, with making it", count, lambda: hash_entries(count))
            - making
        )

        def library() -> None:
            check_tiles(ledger, count, frontier.root()).raise_for_faults()

        def script() -> None:
            bundle = verify.Bundle(Path(folder), 3600)
            if verify.Tree(bundle, verify.Head(*_head(head))).check():
                raise SystemExit("the single-file verifier found a fault")

        checked = timed("check_tiles: every tile recomputed", count, library)
        alone = timed("verify.py: every tile recomputed", count, script)
    print(f"check_tiles / SHA-256 over the same bytes: {checked / plain:.2f}")
    print(f"check_tiles / SHA-256 of each entry:       {checked / single:.2f}")
    print(f"verify.py   / check_tiles:                 {alone / checked:.2f}")


def _head(head: Checkpoint) -> tuple[str, int, bytes]:
    return head.origin, head.size, head.root


if __name__ == "__main__":
    main()
