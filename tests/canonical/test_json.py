"""Canonical JSON against the published RFC 8785 vectors, and the refusal of floats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from freehold.canonical.json import commit, decode, digest, encode, encode_text
from freehold.errors import InputError, IntegrityError

WITHOUT_FLOATS = ("arrays", "french", "unicode", "weird")
WITH_FLOATS = {"structures": r"\$\.1\.\\n|\$\.1\.\n", "values": r"\$\.numbers\[0\]"}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


def vector(shared_data: Path, folder: str, name: str) -> bytes:
    return (shared_data / "specs/jcs-rfc8785" / folder / name).read_bytes()


@pytest.mark.parametrize("name", WITHOUT_FLOATS)
def test_published_vectors(shared_data: Path, name: str) -> None:
    """Every vector without floats comes out byte for byte, and its output is a fixed point."""
    expected = bytes.fromhex(vector(shared_data, "outhex", f"{name}.txt").decode())
    value = json.loads(vector(shared_data, "input", f"{name}.json"))
    assert expected == encode(value) == vector(shared_data, "output", f"{name}.json")
    assert value == decode(expected)


@pytest.mark.parametrize("name", WITH_FLOATS)
def test_vectors_with_floats_are_refused(shared_data: Path, name: str) -> None:
    """A float is refused with the place where it stands: no record may hold one."""
    value = json.loads(vector(shared_data, "input", f"{name}.json"))
    with pytest.raises(InputError, match=WITH_FLOATS[name]):
        encode(value)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    """What was encoded is decoded to the same value, and encodes to the same bytes."""
    assert value == decode(encode(value))
    assert encode(value) == encode(decode(encode_text(value)))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"b":1,"a":2}', "not in canonical form"),
        ('{"a": 1}', "not in canonical form"),
        ('{"a":1,"a":1}', "not in canonical form"),
        ('"\\u0041"', "not in canonical form"),
        ("[1.5]", "floats may not stand"),
        ("[1e400]", "floats may not stand"),
        ("[9007199254740992]", "integers in records"),
        ("{", "not canonical JSON"),
        ("[" * 100_000, "not canonical JSON"),
        ('"\\ud800"', "cannot be written as UTF-8"),
        ('"\ud800"', "not canonical JSON"),
    ],
)
def test_what_is_not_canonical_is_refused(text: str, match: str) -> None:
    """A record has one form; any other is a sign that it was altered."""
    with pytest.raises(IntegrityError, match=match):
        decode(text)


def test_a_commitment_depends_on_salt_and_value() -> None:
    """The same value under two salts has two commitments; a short salt is refused."""
    assert commit(b"a" * 16, {"x": 1}) != commit(b"b" * 16, {"x": 1})
    assert commit(b"a" * 16, {"x": 1}).startswith("hmac-sha256:")
    assert digest({"x": 1}).startswith("sha256:")
    with pytest.raises(InputError, match="salt of 16 bytes"):
        commit(b"short", 1)


def test_plain_values_are_written_as_the_reference_implementation_writes_them() -> None:
    # Plain values take a faster way; every character that JSON escapes goes through it here.
    every = "".join(chr(code) for code in [*range(0x2100), *range(0xE000, 0xF900), 0x1F600])
    values = [
        every,
        {"zeta": 1, "alpha": [True, False, None, -(2**53) + 1], "a/b": {}, "\x7f": every, "": []},
        {"ключ": 1, "\U0001f600": 2, "\uffff": 3, "a": 4},
    ]
    for value in values:
        assert encode(value) == rfc8785.dumps(value)
