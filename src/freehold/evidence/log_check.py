"""Steps of a verification that concern the log itself: keys, entries, signed heads, files.

The signed heads say what the log was; whatever differs from them is at fault. Where entries in the
database no longer lead to a signed root, the level-0 tiles on the disk tell which entry it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from freehold.canonical.json import decode
from freehold.canonical.merkle import Frontier, leaf_hash
from freehold.errors import FreeholdError, IntegrityError
from freehold.evidence.emptied import ERASED
from freehold.evidence.entries import ENTRY_FORMAT
from freehold.evidence.findings import Findings
from freehold.evidence.keys import LOG_KEY, log_signer, log_verifier
from freehold.evidence.notes import Checkpoint, Verifier, open_note
from freehold.evidence.tile_check import check_tiles
from freehold.evidence.tiles import CHECKPOINT, TileReader, needed_files
from freehold.lab.opened import Lab
from freehold.lab.schema import (
    COMMITTED,
    ROOTED,
    lab_info,
    ledger_checkpoints,
    ledger_entries,
    ledger_pending,
)

_COMMITMENT = re.compile(r"(hmac-sha256|sha256):([0-9a-f]{64})")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_PARTS = {"format", "origin", "entry_id", "kind", "actor", "at", "body", "rows", "roots"}
_ATTEMPTS = 3


@dataclass
class Named:
    """What the entries say in the end: the last commitment of each row, and what was erased.

    A commitment is held as one byte (``h`` under a salt, ``s`` in the open) and 32 of hash.
    """

    rows: dict[str, dict[str, bytes]] = field(default_factory=dict)
    roots: dict[str, dict[str, tuple[str, int]]] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    person_keys: set[tuple[str, str]] = field(default_factory=set)

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take in one entry. Raises IntegrityError where it has a shape that no entry has."""
        kind, body = entry["kind"], entry["body"]
        if kind == ERASED:
            self.erased.update(body["item_ids"])
        if "public_key" in body and kind == "person.key_added":
            self.person_keys.add((body["principal_id"], body["public_key"]))
        for table, bound in entry["rows"].items():
            known = self.rows.setdefault(table, {})
            for key, text in bound.items():
                known[key] = _packed(table, key, text, kind)
        for table, owners in entry["roots"].items():
            if table not in ROOTED:
                raise IntegrityError(
                    f"it binds a root of {table}, which is no table of rooted rows"
                )
            for owner, bound in owners.items():
                self.roots.setdefault(table, {})[owner] = (str(bound["root"]), int(bound["size"]))


def check_keys(lab: Lab, connection: Connection, found: Findings) -> Verifier | None:
    """Check that settings, database and keys speak of one log; return its public key."""
    stored = connection.execute(select(lab_info.c.value).where(lab_info.c.key == "origin")).scalar()
    if stored != lab.origin:
        found.fault("lab_info/origin", f"it says {stored!r}, lab.toml says {lab.origin!r}")
    try:
        verifier = log_verifier(lab)
        if verifier.name != lab.origin:
            found.fault("keys/log.vkey", f"it is a key of {verifier.name}, not of {lab.origin}")
        # A copy given to an auditor has no private key, and needs none to be verified.
        if (lab.layout.keys / LOG_KEY).exists() and log_signer(lab).verifier != verifier:
            found.fault("keys/log.vkey", "it is not the public half of log.key")
    except (FreeholdError, OSError, UnicodeDecodeError) as error:
        found.fault("keys/log.vkey", f"the ledger's key cannot be used: {error}")
        return None
    found.count("keys")
    return verifier


class LogCheck:
    """Reads the whole log in the database once: entries, and the signed heads over them."""

    def __init__(self, lab: Lab, connection: Connection, found: Findings) -> None:
        self.lab, self.connection, self.found = lab, connection, found
        self.named = Named()
        self.size = 0
        self.roots: dict[int, bytes] = {}
        self._frontier = Frontier()
        self._waiting: list[bytes] = []
        self._tiles = TileReader(lab.layout.ledger)

    def read_entries(self, verifier: Verifier | None) -> None:
        """Check entry after entry, and each signed head when its size is reached."""
        heads = self._heads()
        head = next(heads, None)
        for row in _stream(self.connection, ledger_entries, ledger_entries.c.idx):
            where = f"ledger_entries/{row['idx']}"
            if row["idx"] != self.size:
                self.found.fault(where, f"entries from {self.size} on are missing")
                return
            data = bytes(row["bytes"])
            self._waiting.append(leaf_hash(data))
            self.size += 1
            self._read(where, row["entry_id"], data, verifier)
            while head is not None and head["size"] == self.size:
                self._check_head(head, verifier)
                head = next(heads, None)
        if head is not None:
            self.found.fault(
                f"ledger_checkpoints/{head['size']}", f"there are only {self.size} entries"
            )
        elif self._waiting:
            self.found.fault("ledger_checkpoints", f"no signed head covers entry {self.size - 1}")

    def read_pending(self) -> None:
        """Check the entries that wait for their place: rows are bound by them already."""
        for row in _stream(self.connection, ledger_pending, ledger_pending.c.seq):
            self._read(f"ledger_pending/{row['entry_id']}", row["entry_id"], bytes(row["bytes"]))
            self.found.count("pending entries")
        waiting = self.found.checked["pending entries"]
        if waiting:
            self.found.note(f"{waiting} entries wait for their place in the log")

    def _heads(self) -> Iterator[RowMapping]:
        return _stream(self.connection, ledger_checkpoints, ledger_checkpoints.c.size)

    def _read(
        self, where: str, entry_id: str, data: bytes, verifier: Verifier | None = None
    ) -> None:
        self.found.count("entries")
        try:
            entry = decode(data)
            _check_shape(entry, entry_id, self.lab.origin)
            if verifier is not None and self.size == 1:
                _check_founding(entry, verifier)
            self.named.take(entry)
        except (IntegrityError, AttributeError, KeyError, TypeError, ValueError) as error:
            self.found.fault(where, f"it is not an entry: {error}")

    def _check_head(self, head: RowMapping, verifier: Verifier | None) -> None:
        where = f"ledger_checkpoints/{head['size']}"
        grown = self._frontier.extend(self._waiting)
        self.found.count("signed heads")
        signed = self._signed_root(where, head, verifier)
        if signed is not None and signed != grown.root():
            self._blame(where, signed)
            grown = _stored_frontier(head, signed) or grown
        elif signed is not None and _stored_frontier(head, signed) is None:
            self.found.fault(where, "its column frontier is not that of the entries below it")
        if signed is not None:
            self.roots[self.size] = signed
        self._frontier, self._waiting = grown, []

    def _signed_root(self, where: str, head: RowMapping, verifier: Verifier | None) -> bytes | None:
        """Return the root that the note of a head signs, having checked note and columns."""
        if not _TIME.fullmatch(str(head["signed_at"])):
            self.found.fault(where, f"its column signed_at is no time: {head['signed_at']!r}")
        if verifier is None:
            return None
        try:
            checkpoint = Checkpoint.parse(open_note(str(head["note"]), [verifier]).text)
        except FreeholdError as error:
            self.found.fault(where, f"its note is not a head signed by the lab: {error}")
            return None
        if (checkpoint.origin, checkpoint.size) != (self.lab.origin, self.size):
            self.found.fault(where, f"its note is about {checkpoint.origin} at {checkpoint.size}")
        if head["root"] != "sha256:" + checkpoint.root.hex():
            self.found.fault(where, "its column root is not the root that its note signs")
        return checkpoint.root

    def _blame(self, where: str, signed: bytes) -> None:
        """Name the entries that are not those under a signed root, by the tiles on the disk."""
        first = self.size - len(self._waiting)
        blamed = []
        for place, leaf in enumerate(self._waiting):
            try:
                published = self._tiles.hash_at(0, first + place)
            except IntegrityError:
                continue  # step 4 names the tile
            if published != leaf:
                blamed.append(first + place)
        for index in blamed:
            self.found.fault(f"ledger_entries/{index}", "its bytes are not those that were signed")
        if not blamed:
            self.found.fault(
                where,
                f"entries {first} to {self.size - 1} do not lead to the root {signed.hex()} "
                "that its note signs",
            )


def check_files(lab: Lab, log: LogCheck, verifier: Verifier, found: Findings) -> None:
    """Check the files under ``ledger/``: their head signed and in the database, every tile equal.

    Files that a publisher replaced meanwhile are read again.
    """
    for attempt in range(_ATTEMPTS):
        note = _published_note(lab, log, found)
        if note is None:
            return
        try:
            head = Checkpoint.parse(open_note(note, [verifier]).text)
        except FreeholdError as error:
            found.fault("ledger/checkpoint", f"it is not a head signed by the lab: {error}")
            return
        check = check_tiles(lab.layout.ledger, head.size, head.root)
        moved = _read_note(lab.layout.ledger / CHECKPOINT) != note
        if not (check.faults and moved and attempt < _ATTEMPTS - 1):
            break
    known = log.roots.get(head.size) or _later_root(lab, head.size)
    if head.origin != lab.origin:
        found.fault("ledger/checkpoint", f"it is a head of {head.origin}")
    elif head.size > log.size and known is None:
        found.fault(
            "ledger/checkpoint",
            f"it was signed over {head.size} entries; the database has only {log.size}",
        )
    elif known != head.root:
        found.fault("ledger/checkpoint", f"its root at {head.size} is not the one in the database")
    # Publishers that were stopped, or are at work, leave files of heads that they are about to
    # show. Such a head is in the database before any file of it is written.
    ahead = _sizes_beyond(lab, head.size) if check.faults else []
    coming = set().union(*(needed_files(size) for size in [*ahead, max(log.size, head.size)]))
    for fault in check.faults:
        if not (fault.kind == "extra" and fault.path in coming):
            at = "" if fault.index is None else f" at {fault.index}"
            found.fault(f"ledger/{fault.path}", f"{fault.kind}{at}: {fault.detail}")
    found.count("ledger files", check.files)
    if head.size < log.size:
        found.note(f"the published ledger lacks the last {log.size - head.size} entries")


def count_entries(connection: Connection) -> int:
    """Return how many entries there are, pending ones included."""
    tables = (ledger_entries, ledger_pending)
    counts = [select(func.count()).select_from(table) for table in tables]
    return sum(int(connection.execute(count).scalar_one()) for count in counts)


def _later_root(lab: Lab, size: int) -> bytes | None:
    """Return the root of a head that was signed after this verification began to read."""
    with lab.reading() as connection:
        root = connection.execute(
            select(ledger_checkpoints.c.root).where(ledger_checkpoints.c.size == size)
        ).scalar()
    return None if root is None else bytes.fromhex(str(root).removeprefix("sha256:"))


def _sizes_beyond(lab: Lab, size: int) -> list[int]:
    """Return the sizes of all heads beyond one, also of those signed since verification began."""
    with lab.reading() as connection:
        later = select(ledger_checkpoints.c.size).where(ledger_checkpoints.c.size > size)
        return list(connection.execute(later).scalars())


def _published_note(lab: Lab, log: LogCheck, found: Findings) -> str | None:
    try:
        return _read_note(lab.layout.ledger / CHECKPOINT)
    except (OSError, UnicodeDecodeError) as error:
        if log.size:
            found.fault("ledger/checkpoint", f"it cannot be read: {error}")
        return None


def _read_note(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


def _stream(connection: Connection, table: Any, order: Any) -> Iterator[RowMapping]:
    query = select(table).order_by(order).execution_options(yield_per=1000)
    yield from connection.execute(query).mappings()


def _stored_frontier(head: RowMapping, root: bytes) -> Frontier | None:
    """Return the frontier that a head's row holds, where it leads to the signed root."""
    try:
        stored = Frontier.from_hex(head["size"], decode(head["frontier"]))
    except (IntegrityError, TypeError, ValueError):
        return None
    return stored if stored.root() == root else None


def _check_shape(entry: Any, entry_id: str, origin: str) -> None:
    if not isinstance(entry, dict) or set(entry) != _PARTS or entry["format"] != ENTRY_FORMAT:
        raise IntegrityError(f"not of format {ENTRY_FORMAT}")
    if entry["entry_id"] != entry_id:
        raise IntegrityError(f"it is {entry['entry_id']}, its row says {entry_id}")
    if entry["origin"] != origin:
        raise IntegrityError(f"it belongs to the log {entry['origin']}")


def _check_founding(entry: Mapping[str, Any], verifier: Verifier) -> None:
    named = entry["body"].get("log_vkey")
    if entry["kind"] != "lab.founded" or named != verifier.vkey():
        raise IntegrityError(f"the first entry names the log's key {named!r}, not keys/log.vkey")


def _packed(table: str, key: str, text: str, kind: str) -> bytes:
    matched = _COMMITMENT.fullmatch(text)
    spec = COMMITTED.get(table)
    if matched is None or (spec is None and table not in ROOTED):
        raise IntegrityError(f"it binds {table}/{key} by {text!r}")
    salted = spec is None or spec.salted
    in_the_open = matched[1] == "sha256"
    # Only erasure may bind a row about an item in the open: nothing personal is left of it.
    if in_the_open != (not salted or kind == ERASED):
        raise IntegrityError(f"it binds {table}/{key} in the wrong way, by {matched[1]}")
    return (b"s" if in_the_open else b"h") + bytes.fromhex(matched[2])
