"""Merkle trees as in RFC 6962, section 2.1: roots, growth, and the two kinds of proof.

Everything here is arithmetic on 32-byte SHA-256 hashes; nothing is read or stored. A proof is made
from a function ``hash_at(level, index)`` that gives the root of a *perfect* subtree: of the leaves
``index * 2**level`` up to ``(index + 1) * 2**level``. Tiles, database rows and lists can all be
such a function.

Checked against the vectors of github.com/transparency-dev/merkle (positive and negative).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from freehold.errors import InputError, IntegrityError

HashAt = Callable[[int, int], bytes]

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of one entry: SHA-256 of 0x00 and the entry."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256 of 0x01 and its two children."""
    return hashlib.sha256(_NODE + left + right).digest()


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes, in their order; `EMPTY_ROOT` over none."""
    return Frontier().extend(leaf_hashes).root()


def parents(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the nodes above an even number of neighbours: half as many."""
    sha256 = hashlib.sha256  # a million calls: each name that is looked up counts
    neighbours = iter(hashes)
    return [
        sha256(_NODE + left + right).digest()
        for left, right in zip(neighbours, neighbours, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that must be kept of a tree to let it grow: its size and its perfect subtrees.

    ``hashes`` holds one root for each bit that is set in ``size``, the largest subtree (the
    leftmost) first. This is the compact range of the tlog literature.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or self.size.bit_count() != len(self.hashes):
            raise IntegrityError(
                f"a tree of {self.size} leaves has {self.size.bit_count()} perfect subtrees, "
                f"got {len(self.hashes)} hashes"
            )
        if any(len(one) != HASH_SIZE for one in self.hashes):
            raise IntegrityError(f"the hashes of a frontier have {HASH_SIZE} bytes each")

    def append(self, leaf: bytes) -> Frontier:
        """Return the frontier after one more leaf hash."""
        return self.extend((leaf,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> Frontier:
        """Return the frontier after more leaf hashes, worked out level by level."""
        carried = list(leaf_hashes)
        size = self.size + len(carried)
        waiting = list(self.hashes)  # the smallest subtree, which meets the new leaves first, last
        kept: list[bytes] = []
        for level in range(size.bit_length()):
            if self.size >> level & 1:
                carried.insert(0, waiting.pop())
            if len(carried) % 2:
                kept.append(carried.pop())
            carried = parents(carried)
        return Frontier(size, tuple(reversed(kept)))

    def root(self) -> bytes:
        """Return the root of the whole tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def to_hex(self) -> list[str]:
        """Return the subtree hashes as hex, in the order of ``hashes``: JSON-able."""
        return [one.hex() for one in self.hashes]

    @classmethod
    def from_hex(cls, size: int, hashes: Sequence[str]) -> Frontier:
        """Read what `to_hex` wrote. Raises IntegrityError where the two do not fit together."""
        try:
            return cls(size, tuple(bytes.fromhex(one) for one in hashes))
        except ValueError as error:
            raise IntegrityError(f"a frontier is stored as hex digits: {error}") from error


def hashes_of(leaf_hashes: Sequence[bytes]) -> HashAt:
    """Return a ``hash_at`` over leaf hashes held in memory."""
    levels = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        even = len(levels[-1]) // 2 * 2
        levels.append(parents(levels[-1][:even]))

    def hash_at(level: int, index: int) -> bytes:
        return levels[level][index]

    return hash_at


def subtree_root(start: int, end: int, hash_at: HashAt) -> bytes:
    """Return the root over the leaves from ``start`` up to ``end``, as RFC 6962 divides a tree."""
    size = end - start
    if size == 0:
        return EMPTY_ROOT
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return hash_at(level, start >> level)
    middle = start + _left_part(size)
    return node_hash(subtree_root(start, middle, hash_at), subtree_root(middle, end, hash_at))


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Return PATH(index, D[size]) of RFC 6962, 2.1.1: siblings from the leaf up to the root."""
    if not 0 <= index < size:
        raise InputError(f"there is no leaf {index} in a tree of {size} leaves")
    start, end = 0, size
    siblings: list[bytes] = []
    while end - start > 1:
        middle = start + _left_part(end - start)
        if index < middle:
            siblings.append(subtree_root(middle, end, hash_at))
            end = middle
        else:
            siblings.append(subtree_root(start, middle, hash_at))
            start = middle
    siblings.reverse()
    return siblings


def consistency_proof(old_size: int, new_size: int, hash_at: HashAt) -> list[bytes]:
    """Return PROOF(old_size, D[new_size]) of RFC 6962, 2.1.2: the old tree is a prefix of the new.

    Nothing needs proof, and the list is empty, where the old tree is empty or the new one itself.
    """
    if not 0 <= old_size <= new_size:
        raise InputError(f"a tree of {new_size} leaves has no earlier state of {old_size} leaves")
    if old_size in {0, new_size}:
        return []
    start, end, rest = 0, new_size, old_size
    whole = True  # the part that is left of the old tree is the old tree itself
    proof: list[bytes] = []
    while rest != end - start:
        middle = start + _left_part(end - start)
        if rest <= middle - start:
            proof.append(subtree_root(middle, end, hash_at))
            end = middle
        else:
            proof.append(subtree_root(start, middle, hash_at))
            rest -= middle - start
            start, whole = middle, False
    if not whole:
        proof.append(subtree_root(start, end, hash_at))
    proof.reverse()
    return proof


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that a leaf hash stands at ``index`` below ``root`` (RFC 9162, 2.1.3.2).

    Raises IntegrityError where it does not.
    """
    if not 0 <= index < size:
        raise IntegrityError(f"there is no leaf {index} in a tree of {size} leaves")
    _check_lengths((leaf, root, *proof))
    place, last, reached = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise IntegrityError(f"inclusion proof of leaf {index}: {len(proof)} hashes, too many")
        if place % 2 or place == last:
            reached = node_hash(sibling, reached)
            place, last = _up_to_right_child(place, last)
        else:
            reached = node_hash(reached, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise IntegrityError(f"inclusion proof of leaf {index}: {len(proof)} hashes, too few")
    if reached != root:
        raise IntegrityError(
            f"leaf {index} of {size} leads to root {reached.hex()}, not to {root.hex()}"
        )


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that the tree under ``old_root`` is a prefix of the new one (RFC 9162, 2.1.4.2).

    Raises IntegrityError where it is not, and for an empty old tree: every tree continues that
    one, so a proof of it would prove nothing.
    """
    if not 0 < old_size <= new_size:
        raise IntegrityError(f"a tree of {old_size} leaves cannot have grown to {new_size}")
    if old_size == new_size:
        if proof:
            raise IntegrityError("two trees of one size are compared by their roots, not a proof")
        if old_root != new_root:
            raise IntegrityError(f"two different roots at size {old_size}")
        return
    _check_lengths((old_root, new_root, *proof))
    power_of_two = old_size & (old_size - 1) == 0
    path = [old_root, *proof] if power_of_two else list(proof)
    if not path or not proof:
        raise IntegrityError(f"no proof that {new_size} leaves continue {old_size}")
    reached = _climb(old_size, new_size, path)
    for name, got, wanted in zip(("old", "new"), reached, (old_root, new_root), strict=True):
        if got != wanted:
            raise IntegrityError(
                f"consistency of {old_size} and {new_size} leaves: the proof leads to another "
                f"{name} root, {got.hex()}, not {wanted.hex()}"
            )


def _climb(old_size: int, new_size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the old and the new root that a consistency path leads to."""
    place, last = old_size - 1, new_size - 1
    while place % 2:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise IntegrityError("consistency proof: too many hashes")
        if place % 2 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            place, last = _up_to_right_child(place, last)
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise IntegrityError("consistency proof: too few hashes")
    return old, new


def _up_to_right_child(place: int, last: int) -> tuple[int, int]:
    """Skip the levels at which the rightmost node has no sibling and is not hashed."""
    while place and not place % 2:
        place, last = place >> 1, last >> 1
    return place, last


def _left_part(size: int) -> int:
    """Return the largest power of two below ``size``, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _check_lengths(hashes: Iterable[bytes]) -> None:
    for one in hashes:
        if len(one) != HASH_SIZE:
            raise IntegrityError(f"a hash of {len(one)} bytes, expected {HASH_SIZE}")
