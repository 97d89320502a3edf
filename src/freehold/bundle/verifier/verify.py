#!/usr/bin/env python3
"""Check this bundle: ``python verify.py [DIR] [--trust VKEY] [--json]``.

One file, the standard library, Python 3.8 or newer. It imports nothing of Freehold, reads only
files inside DIR, writes nothing and opens no connection. What it checks, in this order:

 1. files      MANIFEST.json lists every file with its size and SHA-256; none is missing or extra
 2. signature  the ledger's key signed the manifest (manifest.note)
 3. ledger     the signed head; every tile worked out again from the entries; witnesses
 4. receipts   each entry stands in the ledger where its receipt says, and what it opens fits
 5. datasets   each row fits its commitment, all commitments the root, the root its ledger entry;
    suites     the same for the cases of suites and the results of evaluations
 6. models     each file fits the model's manifest, the manifest its digest
 7. state      each row of each table is what the last ledger entry that names it committed to

FORMAT.md beside this file says byte for byte what is read. A bundle comes from a stranger: every
size is bounded, no link is followed, and whatever is wrong is reported by file, not by a crash.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import hmac
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MANIFEST, MANIFEST_NOTE = "MANIFEST.json", "manifest.note"
STATE = "state/lab.json"
MANY = 20  # failures listed for one check
MAX_FILES = 5_000_000
MAX_DOCUMENT = 256 << 20
MAX_NOTE = 1 << 20
MAX_ENTRY = 0xFFFF
MAX_TREE = 1 << 40
SAFE_INTEGER = 2**53 - 1
WIDTH = 256  # hashes in a full tile, entries in a full bundle of entries


class Failed(Exception):
    """Something is wrong: in which file, and what."""

    def __init__(self, file: str, detail: str) -> None:
        super().__init__(f"{file}: {detail}")
        self.file, self.detail = file, detail


class Result(NamedTuple):
    """One line of the report; ``status`` is ok, FAIL, absent or note."""

    status: str
    what: str
    detail: str = ""
    file: str = ""


class Report:
    """What was found, in the order of the checks."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    @property
    def ok(self) -> bool:
        """Whether nothing failed and something was checked."""
        states = [result.status for result in self.results]
        return "FAIL" not in states and "ok" in states

    def passed(self, what: str, detail: str) -> None:
        """Say what was checked, and how much of it."""
        self.results.append(Result("ok", what, detail))

    def absent(self, what: str, detail: str) -> None:
        """Say that an optional part is not there."""
        self.results.append(Result("absent", what, detail))

    def note(self, what: str, detail: str) -> None:
        """Say what the reader must know to judge the result."""
        self.results.append(Result("note", what, detail))

    def failed(self, what: str, faults: Sequence[Failed]) -> None:
        """List what failed, up to a bound."""
        for fault in faults[:MANY]:
            self.results.append(Result("FAIL", what, fault.detail, fault.file))
        if len(faults) > MANY:
            self.results.append(Result("FAIL", what, f"and {len(faults) - MANY} more", "…"))

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        for one in self.results:
            if one.status == "FAIL":
                yield f"FAIL {one.what}: {one.file}, {one.detail}"
            elif one.status == "ok":
                yield f"ok   {one.what} ({one.detail})"
            else:
                yield f"{one.status:4} {one.what}: {one.detail}"


# ── Ed25519, verification only (RFC 8032, 5.1) ──────────────────────────────────────────────────

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)  # points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z


def _add(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _point(encoded: bytes) -> tuple[int, int, int, int]:
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        raise ValueError("no point of the curve")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        raise ValueError("no point of the curve")
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def _encode(point: tuple[int, int, int, int]) -> bytes:
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    encoded: bytes = (y | (x & 1) << 255).to_bytes(32, "little")
    return encoded


BASE = _point(bytes([0x58]) + bytes([0x66]) * 31)


@functools.lru_cache(maxsize=4096)
def ed25519_valid(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (64 bytes) is that of ``message`` under ``public`` (32 bytes)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= ORDER:
        return False
    try:
        key = _point(public)
    except ValueError:
        return False
    hashed = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(hashed, "little") % ORDER
    # [scalar]B − [challenge]A, both multiplications in one pass from the highest bit.
    minus_key = (P - key[0], key[1], 1, P - key[3])
    both = _add(BASE, minus_key)
    reached = NEUTRAL
    for bit in range(252, -1, -1):
        reached = _add(reached, reached)
        chosen = (scalar >> bit & 1) + 2 * (challenge >> bit & 1)
        if chosen:
            reached = _add(reached, (BASE, minus_key, both)[chosen - 1])
    return _encode(reached) == signature[:32]


# ── canonical JSON (RFC 8785) without floats ────────────────────────────────────────────────────


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a value without floats."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if any(letter > "\uffff" for letter in text):
        text = _canonical_text(value)  # Python orders such keys by code point, the RFC by UTF-16
    return text.encode("utf-8")


def _canonical_text(value: Any) -> str:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: str(key).encode("utf-16-be"))
        inner = (f"{_canonical_text(key)}:{_canonical_text(value[key])}" for key in keys)
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_canonical_text(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def parse(data: bytes, file: str) -> Any:
    """Return the value of canonical JSON; anything else fails."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_float=_refuse_number,
            parse_int=_whole_number,
            parse_constant=_refuse_number,
        )
        same = canonical(value) == data
    except (ValueError, RecursionError) as error:
        raise Failed(file, f"not canonical JSON: {error}") from error
    if not same:
        raise Failed(file, "JSON, but not in canonical form (RFC 8785): it was altered")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse_number(text: str) -> Any:
    raise ValueError(f"{text[:40]} is not a whole number")


def _whole_number(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > SAFE_INTEGER:
        raise ValueError(f"{text[:40]}… is beyond 2^53 − 1")
    return int(text)


def member(record: Any, name: str, kind: type, file: str) -> Any:
    """Return a member of an object, of exactly this type."""
    value = record.get(name) if isinstance(record, dict) else None
    if type(value) is not kind:
        raise Failed(file, f"it has no {name!r} of type {kind.__name__}")
    return value


# ── notes and keys (c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature) ────────────────────


def decode64(text: str) -> bytes:
    """Return the bytes of base64 in its one plain spelling, or raise ValueError."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 with spare bits set")
    return raw


class Key(NamedTuple):
    """A verifier key; kind 1 signs notes, kind 4 cosigns checkpoints."""

    name: str
    kind: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that stand before each of its signatures."""
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(named).digest()[:4]

    @property
    def vkey(self) -> str:
        """The key as people pass it on."""
        material = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"


def parse_key(text: str, file: str) -> Key:
    """Read ``name+id+base64``."""
    parts = text.strip().split("+", 2)
    try:
        raw = decode64(parts[2])
        key = Key(parts[0], raw[0], raw[1:])
    except (IndexError, ValueError) as error:
        raise Failed(file, "not a verifier key (name+id+base64)") from error
    if key.vkey != text.strip() or key.kind not in (1, 4) or len(key.public) != 32 or not key.name:
        raise Failed(file, "not an Ed25519 verifier key, or its id does not fit")
    return key


def open_note(note: str, keys: Iterable[Key], file: str) -> tuple[str, set[Key]]:
    """Return a note's text and which keys signed it; a wrong signature by one of them fails."""
    if len(note) > MAX_NOTE or any(one < " " and one != "\n" for one in note):
        raise Failed(file, "not a signed note: too long, or control characters")
    text, blank, below = note.rpartition("\n\n")
    if not blank or not below.endswith("\n"):
        raise Failed(file, "not a signed note: text, an empty line, signatures")
    text += "\n"
    known = {(key.name, key.key_id): key for key in keys}
    signed: set[Key] = set()
    lines = below[:-1].split("\n")
    if len(lines) > 100:
        raise Failed(file, f"{len(lines)} signatures; 100 at most")
    for line in lines:
        parts = line.split(" ")
        try:
            raw = decode64(parts[2])
        except (IndexError, ValueError) as error:
            raise Failed(file, "a signature line is malformed") from error
        if len(parts) != 3 or parts[0] != "—":
            raise Failed(file, "a signature line is malformed")
        key = known.get((parts[1], raw[:4]))
        if key is not None:
            if not _signature_fits(key, text, raw[4:]):
                raise Failed(file, f"the signature of {key.name} does not fit the text")
            signed.add(key)
    return text, signed


def _signature_fits(key: Key, text: str, signature: bytes) -> bool:
    message = text.encode()
    if key.kind == 4:
        at = int.from_bytes(signature[:8], "big")
        message = f"cosignature/v1\ntime {at}\n{text}".encode()
        signature = signature[8:]
    return ed25519_valid(key.public, message, signature)


class Head(NamedTuple):
    """A checkpoint: the log's name, its size, its root."""

    origin: str
    size: int
    root: bytes


def open_head(note: str, key: Key, others: Iterable[Key], file: str) -> tuple[Head, set[Key]]:
    """Return a checkpoint that ``key`` signed, and which of the other keys cosigned it."""
    text, signed = open_note(note, [key, *others], file)
    if key not in signed:
        raise Failed(file, f"not signed by {key.name}+{key.key_id.hex()}")
    lines = text.split("\n")
    if len(lines) != 4 or lines[0] != key.name or not re.match(r"(0|[1-9][0-9]{0,18})\Z", lines[1]):
        raise Failed(file, f"not a checkpoint of {key.name}: origin, size and root")
    try:
        head = Head(lines[0], int(lines[1]), decode64(lines[2]))
    except ValueError as error:
        raise Failed(file, f"the root is malformed: {error}") from error
    if head.size > MAX_TREE or len(head.root) != 32:
        raise Failed(file, f"a ledger of {head.size} entries is not checked, or the root is cut")
    return head, signed - {key}


# ── Merkle trees (RFC 6962, 2.1) ────────────────────────────────────────────────────────────────


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root over neighbours of one level; a last one without a partner moves up."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    sha256 = hashlib.sha256
    while len(hashes) > 1:
        even = len(hashes) // 2 * 2
        above = [sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest() for at in range(0, even, 2)]
        above.extend(hashes[even:])
        hashes = above
    return hashes[0]


def included(leaf: bytes, index: int, head: Head, path: Sequence[bytes]) -> bool:
    """Whether a leaf stands at an index below a root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < head.size:
        return False
    place, last, reached = index, head.size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if place % 2 or place == last:
            reached = hashlib.sha256(b"\x01" + sibling + reached).digest()
            while place and not place % 2:
                place, last = place >> 1, last >> 1
        else:
            reached = hashlib.sha256(b"\x01" + reached + sibling).digest()
        place, last = place >> 1, last >> 1
    return last == 0 and reached == head.root


# ── the bundle's files ──────────────────────────────────────────────────────────────────────────


class Bundle:
    """The files of a bundle, found once, and what the checks pass on to each other."""

    def __init__(self, root: Path, deadline: float) -> None:
        self.root = root
        self.ends = time.monotonic() + deadline
        self.sizes: dict[str, int] = {}
        self.odd: list[Failed] = []
        self.hashes: dict[str, str] = {}
        self.key: Key | None = None
        self.witnesses: dict[str, Key] = {}
        self.leaves: list[bytes] | None = None
        self.entries: dict[str, Any] = {}
        self.named: dict[str, dict[str, str]] | None = None
        self.roots: dict[str, dict[str, Any]] = {}
        self._find()

    def tick(self) -> None:
        """Stop when the time is up."""
        if time.monotonic() > self.ends:
            raise Failed("…", "the deadline has passed; the check is not complete")

    def read(self, file: str, limit: int = MAX_DOCUMENT) -> bytes:
        """Return the bytes of a file that was found to be plain."""
        self.tick()
        if file not in self.sizes:
            raise Failed(file, "missing")
        if self.sizes[file] > limit:
            raise Failed(file, f"{self.sizes[file]} bytes; at most {limit} are read")
        with (self.root / file).open("rb") as stream:
            data = stream.read(limit + 1)
        if len(data) != self.sizes[file]:
            raise Failed(file, "it changed while it was read")
        return data

    def text(self, file: str) -> str:
        """Return a small file as text."""
        try:
            return self.read(file, MAX_NOTE).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Failed(file, "not UTF-8") from error

    def sha256(self, file: str) -> str:
        """Return the SHA-256 of a file as hex; each file is hashed once."""
        if file not in self.hashes:
            digest = hashlib.sha256()
            with (self.root / file).open("rb") as stream:
                for block in iter(functools.partial(stream.read, 1 << 20), b""):
                    self.tick()
                    digest.update(block)
            self.hashes[file] = digest.hexdigest()
        return self.hashes[file]

    def below(self, folder: str, suffix: str = "") -> list[str]:
        """Return the files below a folder whose name ends so, sorted."""
        return sorted(f for f in self.sizes if f.startswith(folder + "/") and f.endswith(suffix))

    def _find(self) -> None:
        for parent, folders, files in os.walk(str(self.root), onerror=_raise):
            self.tick()
            for name in sorted(folders + files):
                path = Path(parent, name)
                file = path.relative_to(self.root).as_posix()
                found = path.lstat()
                if stat.S_ISREG(found.st_mode):
                    self.sizes[file] = found.st_size
                elif not stat.S_ISDIR(found.st_mode):
                    self.odd.append(Failed(file, "a link or device; only plain files are allowed"))
            if len(self.sizes) > MAX_FILES:
                raise Failed(str(self.root), f"more than {MAX_FILES} files")


def _raise(error: OSError) -> None:
    raise error  # a folder that cannot be listed could hide anything


# ── 1 and 2: the manifest and who signed it ─────────────────────────────────────────────────────


def check_files(bundle: Bundle, report: Report) -> None:
    """Compare every file with the manifest, both ways."""
    faults = list(bundle.odd)
    listed = _listed(parse(bundle.read(MANIFEST), MANIFEST), MANIFEST)
    for file, (size, sha256) in listed.items():
        if file not in bundle.sizes:
            faults.append(Failed(file, "missing: the manifest lists it"))
        elif bundle.sizes[file] != size:
            faults.append(Failed(file, f"it has {bundle.sizes[file]} bytes, not {size}"))
        elif bundle.sha256(file) != sha256:
            faults.append(Failed(file, f"its SHA-256 is {bundle.sha256(file)}, not {sha256}"))
    extra = bundle.sizes.keys() - listed.keys() - {MANIFEST, MANIFEST_NOTE}
    faults += [Failed(file, "extra: the manifest does not list it") for file in sorted(extra)]
    report.failed("files", faults)
    if not faults:
        total = sum(size for size, _ in listed.values())
        report.passed("files", f"{len(listed)} files, {total} bytes")


def _listed(value: Any, file: str) -> dict[str, tuple[int, str]]:
    """Return path → (size, SHA-256) of a list of files; paths must be plain and in order."""
    if type(value) is not list:
        raise Failed(file, "not a list of files")
    found: dict[str, tuple[int, str]] = {}
    last = ""
    for one in value:
        path = member(one, "path", str, file)
        if not path or path.startswith("/") or "\\" in path or not _plain(path):
            raise Failed(file, f"{path!r} is no path inside the bundle")
        if path <= last:
            raise Failed(file, f"{path!r} is listed twice or out of order")
        last = path
        found[path] = (member(one, "size", int, file), member(one, "sha256", str, file))
    return found


def _plain(path: str) -> bool:
    return all(part not in ("", ".", "..") for part in path.split("/")) and path.isprintable()


def check_signature(bundle: Bundle, report: Report, trust: Sequence[Key]) -> None:
    """Check whose key signed the manifest, and whether the reader knows that key."""
    key = parse_key(bundle.text("keys/log.vkey"), "keys/log.vkey")
    if key.kind != 1:
        raise Failed("keys/log.vkey", "the key of a witness, not of a ledger")
    logs = [one for one in trust if one.kind == 1]
    if logs and key not in logs:
        raise Failed("keys/log.vkey", f"{key.vkey} is not the key you trust")
    bundle.key = key
    if logs:
        report.passed("key", f"the one you trust, {key.name}")
    else:
        warning = "key taken from the bundle itself: compare it with one you got elsewhere"
        report.note("key", f"{warning}: {key.vkey}")
    text, signed = open_note(bundle.text(MANIFEST_NOTE), [key], MANIFEST_NOTE)
    if key not in signed:
        raise Failed(MANIFEST_NOTE, f"not signed by {key.name}+{key.key_id.hex()}")
    bundle.read(MANIFEST)
    if text != f"freehold-bundle/1\n{bundle.sha256(MANIFEST)}\n":
        raise Failed(MANIFEST_NOTE, f"it is not about this {MANIFEST}")
    report.passed("signature", f"by {key.name}")


# ── 3: the ledger ───────────────────────────────────────────────────────────────────────────────


def check_ledger(bundle: Bundle, report: Report, trust: Sequence[Key]) -> None:
    """Check the signed head, its witnesses and every file of the tree below it."""
    if not bundle.below("ledger"):
        report.absent("ledger", "the bundle has none")
        return
    key = _key(bundle)
    witnesses = {
        file: parse_key(bundle.text(file), file) for file in bundle.below("keys/witness", ".vkey")
    }
    witnesses.update({f"--trust {one.name}": one for one in trust if one.kind == 4})
    note = bundle.text("ledger/checkpoint")
    head, cosigned = open_head(note, key, witnesses.values(), "ledger/checkpoint")
    missing = [
        Failed("ledger/checkpoint", f"not cosigned by {one.name} ({file})")
        for file, one in witnesses.items()
        if one not in cosigned
    ]
    bundle.witnesses = witnesses
    report.failed("witnesses", missing)
    faults = Tree(bundle, head).check()
    report.failed("ledger", faults)
    if not faults:
        report.passed("ledger", f"{head.size} entries")
    if not witnesses:
        report.absent("witnesses", "nobody but the operator has signed this ledger's newest head")
    elif not missing:
        report.passed("witnesses", ", ".join(sorted(one.name for one in cosigned)))
    check_earlier_heads(bundle, report, key)


def check_earlier_heads(bundle: Bundle, report: Report, key: Key) -> None:
    """Check the heads that witnesses cosigned earlier."""
    for file in bundle.below("ledger/witnessed", ".checkpoint"):
        try:
            report.passed(file, check_earlier_head(bundle, key, file))
        except Failed as error:
            report.failed("witnesses", [error])


def check_earlier_head(bundle: Bundle, key: Key, file: str) -> str:
    """Check that a head which a witness cosigned is a beginning of this very ledger."""
    beside = file[: -len("checkpoint")] + "vkey"
    witness = parse_key(bundle.text(beside), beside)
    head, cosigned = open_head(bundle.text(file), key, [witness], file)
    if witness not in cosigned:
        raise Failed(file, f"not cosigned by {witness.name}")
    if bundle.leaves is None:
        raise Failed(file, "it cannot be compared: the ledger itself does not hold")
    if head.size > len(bundle.leaves) or root_of(bundle.leaves[: head.size]) != head.root:
        raise Failed(file, "this ledger does not continue what the witness saw")
    return f"{witness.name} saw the first {head.size} entries"


def _key(bundle: Bundle) -> Key:
    if bundle.key is None:
        raise Failed("keys/log.vkey", "without a valid key nothing that it signed can be checked")
    return bundle.key


def tile_path(level: int | str, index: int, width: int) -> str:
    """Return the path of a tile or, with level ``entries``, of a bundle of entries."""
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.append(f"x{index % 1000:03d}")
    suffix = "" if width == WIDTH else f".p/{width}"
    return f"ledger/tile/{level}/{'/'.join(reversed(parts))}{suffix}"


def tile_widths(count: int) -> Iterator[tuple[int, int]]:
    """Yield (index, width) of the tiles that hold ``count`` hashes."""
    for index in range((count + WIDTH - 1) // WIDTH):
        yield index, min(WIDTH, count - index * WIDTH)


class Tree:
    """Works every tile out again from the entries, and finds the file that is wrong."""

    def __init__(self, bundle: Bundle, head: Head) -> None:
        self.bundle, self.head = bundle, head
        self.faults: list[Failed] = []
        self.pairs: list[tuple[str, str, list[int]]] = []  # entries, tile, differing indexes
        self.seen: set[str] = set()

    def check(self) -> list[Failed]:
        """Return what is wrong. The signed root says whom to believe where two files disagree."""
        wanted = {entry_id.encode(): entry_id for entry_id in self.bundle.entries}
        derived: list[bytes] = []
        stored: list[bytes] = []
        for index, width in tile_widths(self.head.size):
            entries = self._entries(index, width, wanted)
            hashes = self._tile(0, index, width)
            if len(self.faults) > MANY:
                return self.faults
            if entries == hashes:
                hashes = entries
            elif entries is not None and hashes is not None:
                self._disagree(index, entries, hashes)
            derived += entries or [b""] * width
            stored += hashes or [b""] * width
        believed = self._judge(derived, stored)
        self._upper_tiles(believed)
        if not self.faults:
            self.bundle.leaves = derived
        others = set(self.bundle.below("ledger/tile")) - self.seen
        self.faults += [Failed(f, "extra: this ledger has no such file") for f in sorted(others)]
        return self.faults

    def _disagree(self, index: int, entries: list[bytes], hashes: list[bytes]) -> None:
        places = [index * WIDTH + at for at in range(len(entries)) if entries[at] != hashes[at]]
        names = (tile_path("entries", index, len(entries)), tile_path(0, index, len(entries)))
        self.pairs.append((*names, places))

    def _judge(self, derived: list[bytes], stored: list[bytes]) -> list[bytes]:
        """Blame one file of each pair; return the roots of the full tiles of the side believed."""
        tiles, root = _above(derived)
        other_tiles, other_root = (tiles, root) if root == self.head.root else _above(stored)
        for entries, tile, places in self.pairs:
            for place in places[:MANY]:
                if root != self.head.root:
                    self.faults.append(Failed(entries, f"entry {place} is not the one in {tile}"))
                if other_root != self.head.root or other_root == root:
                    self.faults.append(Failed(tile, f"hash {place} is not that of the entry"))
        if self.head.root not in (root, other_root) and not self.faults:
            detail = f"the entries lead to root {root.hex()}, not to {self.head.root.hex()}"
            self.faults.append(Failed("ledger/checkpoint", detail))
        return other_tiles if other_root == self.head.root else tiles

    def _upper_tiles(self, hashes: list[bytes]) -> None:
        level = 1
        while hashes:
            for index, width in tile_widths(len(hashes)):
                held = self._tile(level, index, width)
                first = index * WIDTH
                for at in range(width):
                    if held is not None and held[at] != hashes[first + at]:
                        file = tile_path(level, index, width)
                        detail = f"hash {first + at} is not the root of the tile below"
                        self.faults.append(Failed(file, detail))
                        break
            hashes, level = _above(hashes)[0], level + 1

    def _tile(self, level: int, index: int, width: int) -> list[bytes] | None:
        file = tile_path(level, index, width)
        data = self._read(file, WIDTH * 32)
        if data is None:
            return None
        if len(data) != width * 32:
            self.faults.append(Failed(file, f"{len(data)} bytes are not {width} hashes"))
            return None
        return [data[at : at + 32] for at in range(0, len(data), 32)]

    def _entries(self, index: int, width: int, wanted: dict[bytes, str]) -> list[bytes] | None:
        file = tile_path("entries", index, width)
        data = self._read(file, WIDTH * (MAX_ENTRY + 2))
        if data is None:
            return None
        looking = [name for name in wanted if name in data]
        hashes: list[bytes] = []
        position = 0
        for _ in range(width):
            start = position + 2
            position = start + int.from_bytes(data[position:start], "big")
            entry = data[start:position]
            hashes.append(hashlib.sha256(b"\x00" + entry).digest())
            if looking:
                self._keep(entry, [wanted[name] for name in looking if name in entry])
            if self.bundle.named is not None:
                self._learn(entry, self.bundle.named)
        if position != len(data):
            self.faults.append(Failed(file, f"the lengths of {width} entries do not add up"))
            return None
        return hashes

    def _keep(self, entry: bytes, names: Sequence[str]) -> None:
        for name in names:
            try:
                value = parse(entry, "entry")
            except Failed:
                continue  # only an entry that can be read can be the one that is looked for
            if isinstance(value, dict) and value.get("entry_id") == name:
                self.bundle.entries[name] = value

    def _learn(self, entry: bytes, named: dict[str, dict[str, str]]) -> None:
        """Note what an entry says of rows; the last word about each row counts."""
        self.bundle.tick()
        try:
            value = parse(entry, "entry")
            rows = member(value, "rows", dict, "entry")
            roots = member(value, "roots", dict, "entry")
        except Failed:
            return  # it names no rows; one that should have is missed when the rows are checked
        for known, said in ((named, rows), (self.bundle.roots, roots)):
            for table, bound in said.items():
                if isinstance(bound, dict):
                    known.setdefault(table, {}).update(bound)

    def _read(self, file: str, limit: int) -> bytes | None:
        self.seen.add(file)
        try:
            return self.bundle.read(file, limit)
        except Failed as error:
            if error.file == "…":
                raise
            self.faults.append(error)
            return None


def _above(hashes: list[bytes]) -> tuple[list[bytes], bytes]:
    """Return the roots of the full tiles, and the root over everything."""
    full = len(hashes) // WIDTH * WIDTH
    tiles = [root_of(hashes[at : at + WIDTH]) for at in range(0, full, WIDTH)]
    tail = hashes[full:]
    return tiles, root_of([*tiles, root_of(tail)] if tail else tiles)


# ── 4: receipts ─────────────────────────────────────────────────────────────────────────────────


def check_receipts(bundle: Bundle, report: Report) -> None:
    """Check each receipt, and that the ledger of this bundle says the same."""
    files = bundle.below("receipts", ".json")
    if not files:
        report.absent("receipts", "the bundle has none")
        return
    key = _key(bundle)
    faults: list[Failed] = []
    opened = 0
    for file in files:
        try:
            opened += check_receipt(bundle, key, file)
        except Failed as error:
            faults.append(error)
    report.failed("receipts", faults)
    if not faults:
        report.passed("receipts", f"{len(files)} receipts, {opened} payloads opened")


def check_receipt(bundle: Bundle, key: Key, file: str) -> int:
    """Check one receipt; return how many payloads it opens."""
    record = parse(bundle.read(file), file)
    if member(record, "format", str, file) != "freehold-receipt/1" or len(record) != 4:
        raise Failed(file, "not a receipt of format freehold-receipt/1")
    entry = member(record, "entry", str, file).encode()
    index, path, note = _proof(member(record, "proof", str, file), file)
    head, _ = open_head(note, key, bundle.witnesses.values(), file)
    leaf = leaf_hash(entry)
    if not included(leaf, index, head, path):
        raise Failed(file, f"the proof does not lead from entry {index} to the signed root")
    leaves = bundle.leaves
    if leaves is not None and (index >= len(leaves) or leaves[index] != leaf):
        raise Failed(file, f"entry {index} of the ledger in this bundle is another one")
    value = parse(entry, file)
    opened = member(record, "opened", list, file)
    for one in opened:
        at = member(one, "at", str, file)
        if find(value, at) != _commitment(one, file):
            raise Failed(file, f"what is opened at {at} is not what the entry commits to")
    return len(opened)


def _proof(text: str, file: str) -> tuple[int, list[bytes], str]:
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise Failed(file, "its proof is not a tlog-proof")
    if lines and lines[0].startswith("extra "):
        lines.pop(0)
    index = re.match(r"index (0|[1-9][0-9]{0,18})\Z", lines.pop(0) if lines else "")
    try:
        path = [decode64(line) for line in lines[:64]]
    except ValueError as error:
        raise Failed(file, f"its proof is malformed: {error}") from error
    if index is None or len(lines) > 63 or any(len(one) != 32 for one in path):
        raise Failed(file, "its proof is malformed")
    return int(index.group(1)), path, note


def _commitment(opened: dict[str, Any], file: str) -> str:
    try:
        text = opened.get("utf8")
        data = text.encode() if isinstance(text, str) else decode64(opened["base64"])
        if "salt" not in opened:
            return "sha256:" + hashlib.sha256(data).hexdigest()
        return commitment(opened["salt"], data)
    except (KeyError, TypeError, ValueError) as error:
        raise Failed(file, "an opened payload is malformed") from error


def commitment(salt: str, data: bytes) -> str:
    """Return the commitment to data under a salt in hex, or raise ValueError."""
    raw = bytes.fromhex(salt)
    if len(raw) < 16 or raw.hex() != salt:
        raise ValueError("a salt has 16 bytes or more, in lower-case hex")
    return "hmac-sha256:" + hmac.new(raw, data, hashlib.sha256).hexdigest()


def find(value: Any, at: str) -> Any:
    """Return what a JSON pointer (RFC 6901) points to, or None."""
    if not at.startswith("/"):
        return None
    for escaped in at[1:].split("/"):
        step = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and re.match(r"(0|[1-9][0-9]{0,8})\Z", step):
            value = value[int(step)] if int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


# ── 5: datasets ─────────────────────────────────────────────────────────────────────────────────


LISTS = ("rows.jsonl", "cases.jsonl", "results.jsonl")


def look_for_entries(bundle: Bundle) -> None:
    """Note which ledger entries are needed, so that one pass over the ledger finds them."""
    lists = [f for part in ("datasets", "suites") for f in bundle.below(part, "/manifest.json")]
    for file in lists:
        try:
            record = parse(bundle.read(file), file)
        except Failed:
            continue  # reported when the dataset itself is checked
        if isinstance(record, dict) and isinstance(record.get("entry_id"), str):
            bundle.entries[record["entry_id"]] = None
    if STATE in bundle.sizes:
        bundle.named = {}


def check_datasets(bundle: Bundle, report: Report, section: str) -> None:
    """Check each list's rows against its root, and the root against the ledger."""
    found = bundle.below(section, "/manifest.json")
    folders = {file.rpartition("/")[0] for file in found}
    faults = [
        Failed(file, "there is no manifest.json beside it")
        for name in LISTS
        for file in bundle.below(section, f"/{name}")
        if file.rpartition("/")[0] not in folders
    ]
    if not found and not faults:
        report.absent(section, "the bundle has none")
        return
    for folder in sorted(folders):
        try:
            check_dataset(bundle, report, folder)
        except Failed as error:
            faults.append(error)
    report.failed(section, faults)


def check_dataset(bundle: Bundle, report: Report, folder: str) -> None:
    """Check one dataset, suite or evaluation."""
    file = f"{folder}/manifest.json"
    held = [f"{folder}/{name}" for name in LISTS if f"{folder}/{name}" in bundle.sizes]
    rows = held[0] if held else f"{folder}/{LISTS[0]}"
    manifest = parse(bundle.read(file), file)
    stated = member(manifest, "root", str, file)
    leaves: list[bytes] = []
    erased = 0
    for number, line in enumerate(_lines(bundle, rows), start=1):
        bundle.tick()
        text, gone = _row(line, f"{rows}:{number}")
        leaves.append(leaf_hash(text.encode("utf-8")))
        erased += gone
    root = "sha256:" + root_of(leaves).hex()
    if root != stated:
        raise Failed(rows, f"its {len(leaves)} rows have root {root}, {file} says {stated}")
    detail = f"{len(leaves)} rows, {erased} erased"
    if "entry_id" in manifest:
        entry = bundle.entries.get(member(manifest, "entry_id", str, file))
        if entry is None:
            raise Failed(file, f"the ledger has no entry {manifest['entry_id']}")
        if not _holds(entry, root):
            raise Failed(file, f"ledger entry {manifest['entry_id']} does not hold its root")
        detail += ", root in the ledger"
    report.passed(folder, detail)


def _row(line: bytes, place: str) -> tuple[str, bool]:
    record = parse(line, place)
    stated = member(record, "commitment", str, place)
    if record.get("erased") is True and len(record) == 2:
        return stated, True
    salt = member(record, "salt", str, place)
    if len(record) != 3 or "row" not in record:
        raise Failed(place, "a row has commitment, row and salt, or commitment and erased")
    try:
        fits = commitment(salt, canonical(record["row"])) == stated
    except ValueError as error:
        raise Failed(place, str(error)) from error
    if not fits:
        raise Failed(place, "the row does not fit its commitment")
    return stated, False


def _lines(bundle: Bundle, file: str) -> Iterator[bytes]:
    if file not in bundle.sizes:
        raise Failed(file, "missing")
    with (bundle.root / file).open("rb") as stream:
        for line in iter(functools.partial(stream.readline, MAX_DOCUMENT), b""):
            if not line.endswith(b"\n"):
                raise Failed(file, "the last line is cut, or a line is too long")
            yield line[:-1]


def _holds(value: Any, text: str) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return any(_holds(one, text) for one in value)
    return bool(value == text)


# ── 6: models ───────────────────────────────────────────────────────────────────────────────────


def check_models(bundle: Bundle, report: Report) -> None:
    """Check each model's files against its manifest, and the manifest against its digest."""
    found = bundle.below("models", "/manifest.json")
    folders = [file.rpartition("/")[0] for file in found if "/files/" not in file]
    if not folders:
        report.absent("models", "the bundle has none")
    for folder in folders:
        try:
            faults = check_model(bundle, report, folder)
        except Failed as error:
            faults = [error]
        report.failed("models", faults)


def check_model(bundle: Bundle, report: Report, folder: str) -> list[Failed]:
    """Check one model; return what is wrong with its files."""
    file = f"{folder}/manifest.json"
    manifest = parse(bundle.read(file), file)
    stated = member(manifest, "digest", str, file)
    del manifest["digest"]
    digest = "sha256:" + hashlib.sha256(canonical(manifest)).hexdigest()
    if digest != stated:
        raise Failed(file, f"its digest is {digest}, it says {stated}")
    listed = _listed(manifest.get("files"), file)
    present = {one[len(folder) + 7 :]: one for one in bundle.below(f"{folder}/files")}
    withheld = f"{folder}/WITHHELD.txt" in bundle.sizes
    faults: list[Failed] = []
    for path, (size, sha256) in listed.items():
        if path not in present:
            if not withheld:
                faults.append(Failed(f"{folder}/files/{path}", "missing"))
        elif (bundle.sizes[present[path]], bundle.sha256(present[path])) != (size, sha256):
            faults.append(Failed(present[path], f"not the file that {file} names"))
    extra = sorted(present.keys() - listed.keys())
    faults += [Failed(present[path], f"extra: {file} does not name it") for path in extra]
    if not faults:
        reason = ", the others are withheld: see WITHHELD.txt" if withheld else ""
        report.passed(folder, f"{len(present)} of {len(listed)} files{reason}, {digest[:23]}")
    return faults


# ── 7: the tables of the lab ────────────────────────────────────────────────────────────────────


def check_state(bundle: Bundle, report: Report) -> None:
    """Check every row of ``state/`` against the last ledger entry that names it."""
    if STATE not in bundle.sizes:
        report.absent("state", "the bundle holds part of a lab, which cannot be restored from it")
        return
    record = parse(bundle.read(STATE), STATE)
    keys, owners = member(record, "keys", dict, STATE), member(record, "owners", dict, STATE)
    tables = Tables(bundle)
    for table in sorted(keys):
        tables.check_rows(table, keys[table], owners.get(table))
    tables.check_payloads()
    report.failed("state", tables.faults)
    if not tables.faults:
        mute = f", {tables.mute} of them mute: their salts are gone" if tables.mute else ""
        report.passed("state", f"{tables.count} rows as the ledger has them{mute}")


class Tables:
    """Recomputes what the ledger says of the rows of a lab's tables."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.faults: list[Failed] = []
        self.count = self.mute = 0
        self.salts = {
            row["item_id"]: None if row["salt"] is None else decode64(row["salt"]).hex()
            for _, row in self._rows("salts")
        }
        running = (row for _, row in self._rows("evaluations") if row.get("state") == "running")
        self.running = {row["evaluation_id"] for row in running}

    def check_rows(self, table: str, key: Sequence[str], owner: str | None) -> None:
        """Check one table; with ``owner`` its rows stand under the roots of their owners."""
        expected = dict((self.bundle.named or {}).get(table, {}))
        leaves: dict[str, list[bytes]] = {}
        for place, row in self._rows(table):
            self.count += 1
            name = "/".join(str(row.get(column)) for column in key)
            stated = expected.pop(name, None)
            if owner is not None:
                own = row.get("commitment")
                leaves.setdefault(str(row.get(owner)), []).append(leaf_hash(str(own).encode()))
                if stated is None:
                    row, stated = {k: row[k] for k in row if k != "commitment"}, own
            if not isinstance(stated, str):
                self._fail(place, f"no ledger entry names {table}/{name}")
            elif not self._fits(row, stated):
                self._fail(place, f"{table}/{name} is not what the ledger committed to")
        for name in expected:
            self._fail(f"state/{table}.jsonl", f"the ledger names {table}/{name}, and it is gone")
        if owner is not None:
            self._check_roots(table, leaves)

    def check_payloads(self) -> None:
        """Check the bytes of each payload against the commitment in its item."""
        stated = {
            part["payload_id"]: part["commitment"]
            for _, row in self._rows("items")
            for part in json.loads(row["parts"])
        }
        for place, row in self._rows("payloads"):
            salt = self.salts.get(row["item_id"])
            wanted = stated.pop(row["payload_id"], None)
            if row["commitment"] != wanted:
                self._fail(place, "no item has this payload, or another commitment of it")
            elif row["erased_at"] is None and salt is not None:
                file = f"state/payloads/{row['payload_id']}"
                inline = row["bytes"]
                data = self.bundle.read(file) if inline is None else decode64(inline)
                if commitment(salt, data) != wanted:
                    self._fail(place if inline is not None else file, "its bytes do not fit")
        for name in stated:
            self._fail("state/payloads.jsonl", f"payload {name} is gone")

    def _fits(self, row: dict[str, Any], stated: str) -> bool:
        if stated.startswith("sha256:"):
            return "sha256:" + hashlib.sha256(canonical(row)).hexdigest() == stated
        salt = self.salts.get(row.get("item_id"))
        if salt is None:
            self.mute += 1
            return True
        return commitment(salt, canonical(row)) == stated

    def _check_roots(self, table: str, leaves: dict[str, list[bytes]]) -> None:
        file = f"state/{table}.jsonl"
        roots = self.bundle.roots.get(table, {})
        for name in sorted(leaves.keys() | roots.keys()):
            under = leaves.get(name, [])
            bound = roots.get(name)
            if bound is None:
                if name not in self.running:
                    self._fail(file, f"no ledger entry binds the rows of {name}")
            elif {"root": "sha256:" + root_of(under).hex(), "size": len(under)} != bound:
                self._fail(file, f"the rows of {name} do not lead to the root in the ledger")

    def _rows(self, table: str) -> Iterator[tuple[str, dict[str, Any]]]:
        file = f"state/{table}.jsonl"
        for number, line in enumerate(_lines(self.bundle, file), start=1):
            self.bundle.tick()
            row = parse(line, f"{file}:{number}")
            if type(row) is not dict:
                raise Failed(f"{file}:{number}", "not a row")
            yield f"{file}:{number}", row

    def _fail(self, place: str, detail: str) -> None:
        self.faults.append(Failed(place, detail))


# ── running it ──────────────────────────────────────────────────────────────────────────────────


def verify_bundle(root: Path, trust: Sequence[str] = (), deadline: float = 3600.0) -> Report:
    """Check the bundle in ``root`` within ``deadline`` seconds; ``trust`` holds verifier keys."""
    report = Report()
    try:
        keys = [parse_key(text, "--trust") for text in trust]
        bundle = Bundle(root, deadline)
    except (Failed, OSError) as error:
        report.failed("bundle", [_fault(error)])
        return report
    if not bundle.sizes:
        report.failed("bundle", [Failed(str(root), "no files: is this the bundle's folder?")])
        return report
    checks: list[tuple[str, Callable[[], None]]] = [
        ("files", lambda: check_files(bundle, report)),
        ("signature", lambda: check_signature(bundle, report, keys)),
        ("datasets", lambda: look_for_entries(bundle)),
        ("ledger", lambda: check_ledger(bundle, report, keys)),
        ("receipts", lambda: check_receipts(bundle, report)),
        ("datasets", lambda: check_datasets(bundle, report, "datasets")),
        ("suites", lambda: check_datasets(bundle, report, "suites")),
        ("models", lambda: check_models(bundle, report)),
        ("state", lambda: check_state(bundle, report)),
    ]
    for what, check in checks:
        try:
            check()
        except (Failed, OSError, LookupError, TypeError, ValueError, RecursionError,
                MemoryError) as error:  # fmt: skip
            report.failed(what, [_fault(error)])
    return report


def _fault(error: BaseException) -> Failed:
    if isinstance(error, Failed):
        return error
    file = getattr(error, "filename", None) or "…"
    return Failed(str(file), f"cannot be checked: {type(error).__name__}: {error}")


def _printable(text: str) -> str:
    """Escape what could move the cursor or forge a line: names in a bundle are a stranger's."""
    return "".join(one if " " <= one <= "~" else ascii(one)[1:-1] for one in text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a bundle and print the report; return 0 if everything holds, 1 if not."""
    parser = argparse.ArgumentParser(description="Check a Freehold bundle, offline.")
    here = str(Path(__file__).resolve().parent)
    parser.add_argument("directory", nargs="?", default=here, help="default: beside this file")
    trusted = "a verifier key you have from elsewhere; may be given again"
    parser.add_argument("--trust", metavar="VKEY", action="append", default=[], help=trusted)
    parser.add_argument("--deadline", metavar="SECONDS", type=float, default=3600.0)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args(arguments)
    report = verify_bundle(Path(given.directory), given.trust, given.deadline)
    if given.json:
        results = [result._asdict() for result in report.results]
        sys.stdout.write(json.dumps({"ok": report.ok, "results": results}, indent=1) + "\n")
    else:
        for line in report.lines():
            sys.stdout.write(_printable(line) + "\n")
        sys.stdout.write("everything holds\n" if report.ok else "THIS BUNDLE DOES NOT HOLD\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
