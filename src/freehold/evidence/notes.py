"""Signed notes, checkpoints and cosignatures, in the formats of c2sp.org.

A note is text with signatures below it (signed-note). A checkpoint is a note whose text names a
log, its size and its Merkle root (tlog-checkpoint). A witness adds a timestamped signature to a
checkpoint that continues the one it saw before (tlog-cosignature, version 1). Outside tools such as
Go's ``sumdb/note`` read all three.

Only Ed25519 is spoken here. A signature by an unknown key is ignored, as the format asks; a wrong
signature by a known key condemns the whole note.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from freehold.errors import InputError, IntegrityError

SIGNS_NOTES: Final = 0x01
COSIGNS: Final = 0x04

_LONGEST_NOTE: Final = 1 << 20
_MOST_SIGNATURES: Final = 100
_LATEST_TIME: Final = 2**63 - 1
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_NAME: Final = re.compile(r"[^\s+]+")
_PRIVATE_PREFIX: Final = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key, the name it signs under, and what it signs: notes, or cosignatures."""

    name: str
    public: bytes
    kind: int = SIGNS_NOTES

    def __post_init__(self) -> None:
        if not _KEY_NAME.fullmatch(self.name) or not self.name.isprintable():
            raise InputError(f"a key's name has no spaces, no plus and some text: {self.name!r}")
        if self.kind not in {SIGNS_NOTES, COSIGNS}:
            raise InputError(f"key {self.name}: unknown kind of signature 0x{self.kind:02x}")
        if len(self.public) != 32:
            raise InputError(
                f"key {self.name}: an Ed25519 key has 32 bytes, not {len(self.public)}"
            )

    @property
    def key_id(self) -> bytes:
        """Four bytes that name the key beside its name: SHA-256(name ‖ newline ‖ kind ‖ key)."""
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(named).digest()[:4]

    def vkey(self) -> str:
        """Return the verifier key as people pass it on: ``name+key id+base64``."""
        material = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Read what `vkey` wrote. Raises InputError for a mistyped or unknown key."""
        parts = vkey.strip().split("+", 2)
        if len(parts) != 3:
            raise InputError(f"not a verifier key (name+id+base64): {vkey.strip()[:80]!r}")
        name, key_id, material = parts
        try:
            raw = decode_base64(material)
        except ValueError as error:
            raise InputError(f"verifier key {name}: {error}") from error
        if not raw:
            raise InputError(f"verifier key {name}: it holds no key")
        verifier = cls(name, raw[1:], raw[0])
        if verifier.key_id.hex() != key_id:
            raise InputError(
                f"verifier key {name}: its id is {verifier.key_id.hex()}, not {key_id}"
            )
        return verifier

    def check(self, text: str, signature: bytes) -> int | None:
        """Check a signature over a note's text; return the time of a cosignature.

        Raises IntegrityError where it is not this key's signature over this text.
        """
        signed_at: int | None = None
        message = text.encode()
        raw = signature
        if self.kind == COSIGNS:
            signed_at, raw = int.from_bytes(signature[:8], "big"), signature[8:]
            message = _cosigned(text, signed_at)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(raw, message)
        except (InvalidSignature, ValueError) as error:
            raise IntegrityError(f"the signature of {self.name} does not fit the text") from error
        return signed_at


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A private Ed25519 key with its name. It does not print itself."""

    verifier: Verifier
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str, kind: int = SIGNS_NOTES) -> Signer:
        """Return a new key from the system's random source."""
        return cls._of(name, kind, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Read what `to_private_text` wrote. Raises InputError; never repeats the text."""
        if not text.startswith(_PRIVATE_PREFIX):
            raise InputError("not a private signing key: the first words are missing")
        parts = text.strip().removeprefix(_PRIVATE_PREFIX).split("+", 2)
        try:
            raw = decode_base64(parts[-1])
            signer = cls._of(parts[0], raw[0], Ed25519PrivateKey.from_private_bytes(raw[1:]))
        except (IndexError, ValueError):
            raise InputError("the private signing key is damaged") from None
        if len(parts) != 3 or signer.verifier.key_id.hex() != parts[1]:
            raise InputError(f"the private signing key {parts[0]} does not fit its id")
        return signer

    def to_private_text(self) -> str:
        """Return the key as text to be kept at mode 0600, as Go's ``sumdb/note`` writes keys."""
        kind = bytes([self.verifier.kind])
        material = base64.b64encode(kind + self.private.private_bytes_raw()).decode()
        return f"{_PRIVATE_PREFIX}{self.verifier.name}+{self.verifier.key_id.hex()}+{material}"

    def sign(self, text: str, *, at: int | None = None) -> str:
        """Return one signature line over a note's text; ``at`` is the POSIX time of a cosignature.

        Raises InputError for text that cannot be a note's.
        """
        _check_text(text)
        if self.verifier.kind == COSIGNS:
            signed_at = int(time.time()) if at is None else at
            stamp = signed_at.to_bytes(8, "big")
            signature = stamp + self.private.sign(_cosigned(text, signed_at))
        else:
            signature = self.private.sign(text.encode())
        encoded = base64.b64encode(self.verifier.key_id + signature).decode()
        return f"— {self.verifier.name} {encoded}\n"

    def __repr__(self) -> str:
        return f"Signer({self.verifier.name})"

    @classmethod
    def _of(cls, name: str, kind: int, private: Ed25519PrivateKey) -> Signer:
        return cls(Verifier(name, private.public_key().public_bytes_raw(), kind), private)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that was checked: by whom, and when if it is a cosignature."""

    name: str
    key_id: bytes
    signed_at: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A note's text and those of its signatures that were checked."""

    text: str
    signatures: tuple[Signature, ...]

    def signed_by(self, verifier: Verifier) -> bool:
        """Whether this very key signed."""
        return any(
            (one.name, one.key_id) == (verifier.name, verifier.key_id) for one in self.signatures
        )


def sign_note(text: str, *signers: Signer) -> str:
    """Return ``text`` as a note with a signature of each signer."""
    return text + "\n" + "".join(signer.sign(text) for signer in signers)


def open_note(note: str, verifiers: Sequence[Verifier]) -> Note:
    """Check a note against trusted keys.

    Raises IntegrityError where no trusted key signed it, where a signature by a trusted key is
    wrong, and where it is no note.
    """
    text, lines = split_note(note)
    known = {(one.name, one.key_id): one for one in verifiers}
    checked: dict[tuple[str, bytes], Signature] = {}
    for line in lines:
        name, key_id, signature = _parse_line(line)
        verifier = known.get((name, key_id))
        if verifier is not None:
            signed_at = verifier.check(text, signature)
            checked.setdefault((name, key_id), Signature(name, key_id, signed_at))
    if not checked:
        wanted = (
            ", ".join(f"{one.name}+{one.key_id.hex()}" for one in verifiers) or "none is trusted"
        )
        raise IntegrityError(f"the note is not signed by a trusted key ({wanted})")
    return Note(text, tuple(checked.values()))


def split_note(note: str) -> tuple[str, list[str]]:
    """Return a note's text and its signature lines, none of them checked.

    Raises IntegrityError where it is no note.
    """
    if len(note) > _LONGEST_NOTE:
        raise IntegrityError(f"a note of {len(note)} characters; {_LONGEST_NOTE} are read at most")
    if any(one < " " and one != "\n" for one in note):
        raise IntegrityError("a note holds no control characters other than newlines")
    text, blank, below = note.rpartition("\n\n")
    if not blank or not below.endswith("\n"):
        raise IntegrityError("not a signed note: text, an empty line, signature lines")
    lines = below[:-1].split("\n")
    if len(lines) > _MOST_SIGNATURES:
        raise IntegrityError(f"a note with {len(lines)} signatures; {_MOST_SIGNATURES} at most")
    return text + "\n", lines


def merge_signatures(note: str, *others: str) -> str:
    """Return ``note`` with the signature lines that others hold over the very same text."""
    text, lines = split_note(note)
    for other in others:
        other_text, other_lines = split_note(other)
        if other_text != text:
            raise InputError("signatures can only be taken over between notes of the same text")
        lines += [line for line in other_lines if line not in lines]
    return text + "\n" + "".join(line + "\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's name, size and Merkle root at one moment."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if (
            not self.origin
            or not self.origin.isprintable()
            or self.size < 0
            or len(self.root) != 32
        ):
            raise InputError(
                f"a checkpoint has an origin, a size and a root of 32 bytes: {self.origin!r}, "
                f"{self.size}, {len(self.root)} bytes"
            )

    def text(self) -> str:
        """Return the text of the note that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a checkpoint, or a whole note with one.

        Raises IntegrityError for anything else. Extension lines are refused: nobody can audit what
        stands in them, and the logs written here have none.
        """
        lines = text.partition("\n\n")[0].removesuffix("\n").split("\n")
        if len(lines) != 3:
            raise IntegrityError(
                f"a checkpoint has an origin, a size and a root, got {len(lines)} lines"
            )
        origin, size, root = lines
        if not _DECIMAL.fullmatch(size):
            raise IntegrityError(f"checkpoint of {origin}: {size[:40]!r} is no size")
        try:
            checkpoint = cls(origin, int(size), decode_base64(root))
        except (ValueError, InputError) as error:
            raise IntegrityError(f"checkpoint of {origin!r}: {error}") from error
        return checkpoint


def decode_base64(text: str) -> bytes:
    """Return the bytes behind base64 text. Raises ValueError for any but the one plain spelling.

    Python's decoder drops the spare bits of the last digit, so that several spellings would pass
    for one signature and an altered file could go unnoticed.
    """
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 with spare bits set")
    return raw


def _parse_line(line: str) -> tuple[str, bytes, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not _KEY_NAME.fullmatch(parts[1]):
        raise IntegrityError(f"not a signature line: {line[:80]!r}")
    try:
        raw = decode_base64(parts[2])
    except ValueError as error:
        raise IntegrityError(f"the signature of {parts[1]} is not base64: {error}") from error
    if len(raw) < 5:
        raise IntegrityError(f"the signature of {parts[1]} is cut short")
    return parts[1], raw[:4], raw[4:]


def _cosigned(text: str, signed_at: int) -> bytes:
    if not 0 < signed_at <= _LATEST_TIME:
        raise IntegrityError(f"a cosignature cannot have been made at {signed_at}")
    return f"cosignature/v1\ntime {signed_at}\n{text}".encode()


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(one < " " and one != "\n" for one in text):
        raise InputError("the text of a note ends in a newline and has no other control characters")
