"""Canonical JSON (RFC 8785) and digests of it.

A digest is written ``sha256:<64 hex digits>``: the tag makes a later change of algorithm
visible. Floats are refused, because two programs may print one float differently; write
probabilities as whole parts per billion and other numbers as decimal strings.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import rfc8785

from freehold.errors import InputError, IntegrityError

PARTS_PER_BILLION = 1_000_000_000
_SAFE_INTEGER = 2**53 - 1

# For a value that `_is_plain` the standard library writes the very bytes of RFC 8785, five times
# faster: without floats only the order of the keys could differ, and ASCII sorts alike everywhere.
_write = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def encode(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a value made of dicts, lists, strings, ints, bools and None."""
    try:
        if _is_plain(value):
            return _write(value).encode("utf-8")
        _refuse_inexact(value, "$")
        return rfc8785.dumps(value)
    except ValueError as error:
        raise InputError(f"text that cannot be written as UTF-8: {error}") from error


def encode_text(value: Any) -> str:
    """Return `encode` as text: the form in which JSON columns are stored."""
    return encode(value).decode("utf-8")


def decode(data: bytes | str) -> Any:
    """Parse JSON; refuse what is not in canonical form (a changed byte, a repeated key)."""
    try:
        raw = data.encode("utf-8") if isinstance(data, str) else data
        value = json.loads(raw)
        canonical = encode(value)
    except (ValueError, RecursionError, InputError) as error:
        raise IntegrityError(f"not canonical JSON: {error}") from error
    if canonical != raw:
        raise IntegrityError("JSON is readable but not in canonical form (RFC 8785)")
    return value


def digest_bytes(data: bytes) -> str:
    """Return the tagged SHA-256 of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """Return the tagged SHA-256 of the canonical form of a value."""
    return digest_bytes(encode(value))


def commit(salt: bytes, value: Any) -> str:
    """Return a commitment that says nothing about the value once the salt is destroyed.

    HMAC-SHA-256 (RFC 2104) under a random salt of at least 16 bytes, over the canonical form.
    """
    return commit_bytes(salt, encode(value))


def commit_bytes(salt: bytes, data: bytes) -> str:
    """Return the commitment of raw bytes under a salt; see `commit`."""
    if len(salt) < 16:
        raise InputError(f"a commitment needs a salt of 16 bytes or more, got {len(salt)}")
    return "hmac-sha256:" + hmac.digest(salt, data, "sha256").hex()


def to_ppb(probability: float) -> int:
    """Return a probability as whole parts per billion, the form in which records hold it."""
    if not 0.0 <= probability <= 1.0 + 1e-9:
        raise InputError(f"a probability lies between 0 and 1, got {probability!r}")
    return min(PARTS_PER_BILLION, round(probability * PARTS_PER_BILLION))


def from_ppb(parts: int) -> float:
    """Return whole parts per billion as a float between 0 and 1."""
    return parts / PARTS_PER_BILLION


def _is_plain(value: Any) -> bool:
    # Loops instead of all(): this is on the way of every row and entry, and a third faster so.
    kind = type(value)
    if kind is dict:
        for key, inner in value.items():  # names of database columns are a subclass of str
            if not isinstance(key, str) or not key.isascii():
                return False
            if type(inner) is not str and not _is_plain(inner):
                return False
        return True
    if kind is int:
        return bool(-_SAFE_INTEGER <= value <= _SAFE_INTEGER)
    if kind is list:
        for inner in value:  # noqa: SIM110
            if not _is_plain(inner):
                return False
        return True
    return kind is str or value is None or kind is bool


def _refuse_inexact(value: Any, path: str) -> None:
    if isinstance(value, float):
        raise InputError(f"floats may not stand in a hashed record: {path} = {value!r}")
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int):
        if abs(value) > _SAFE_INTEGER:
            raise InputError(f"integers in records lie within ±(2^53 − 1): {path} = {value}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InputError(f"keys of records are text: {path} has {key!r}")
            _refuse_inexact(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            _refuse_inexact(inner, f"{path}[{position}]")
    else:
        raise InputError(f"{path} is of type {type(value).__name__}, which JSON does not have")
