"""RFC 6962 arithmetic against the published vectors, and against the definition itself."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.canonical.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    hashes_of,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    subtree_root,
    verify_consistency,
    verify_inclusion,
)
from freehold.errors import InputError, IntegrityError

# RFC 6962 reference tree: these eight inputs and roots stand in every implementation of it.
INPUTS = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "60" + "".join(
        f"{0x60 + n:02x}" for n in range(1, 16)
    ))
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    """Return the leaf hashes of ``count`` different entries."""
    return [leaf_hash(b"entry %d" % number) for number in range(count)]


def defined_root(hashes: list[bytes]) -> bytes:
    """Return MTH as RFC 6962 writes it: slow, recursive, and plainly the definition."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node_hash(defined_root(hashes[:k]), defined_root(hashes[k:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_root_of_the_reference_tree(size: int) -> None:
    """The first eight trees of the reference implementation have the published roots."""
    assert ROOTS[size - 1] == root_of(leaf_hash(one) for one in INPUTS[:size]).hex()


def test_root_of_nothing() -> None:
    """The empty tree has the hash of the empty string."""
    assert EMPTY_ROOT == root_of([]) == Frontier().root() == hashlib.sha256(b"").digest()


def vectors(shared_data: Path, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Read every published vector of one kind."""
    folder = shared_data / "specs/merkle-testdata" / kind
    found = [(str(path), json.loads(path.read_text())) for path in sorted(folder.rglob("*.json"))]
    assert len(found) == 98
    return found


def decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def accepts(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except IntegrityError:
        return False
    return True


def test_published_inclusion_vectors(shared_data: Path) -> None:
    """All 98 inclusion vectors are accepted or refused as published."""
    for name, v in vectors(shared_data, "inclusion"):
        proof = [decoded(one) for one in v["proof"] or []]
        arguments = (decoded(v["leafHash"]), v["leafIdx"], v["treeSize"], proof, decoded(v["root"]))
        assert accepts(verify_inclusion, *arguments) != v["wantErr"], name


def test_published_consistency_vectors(shared_data: Path) -> None:
    """All 98 consistency vectors are accepted or refused as published."""
    for name, v in vectors(shared_data, "consistency"):
        proof = [decoded(one) for one in v["proof"] or []]
        arguments = (v["size1"], v["size2"], proof, decoded(v["root1"]), decoded(v["root2"]))
        assert accepts(verify_consistency, *arguments) != v["wantErr"], name


def test_every_proof_of_small_trees() -> None:
    """Each leaf of each tree up to 33 leaves, and each pair of sizes, has a proof that verifies."""
    everything = leaves(33)
    roots = [defined_root(everything[:size]) for size in range(34)]
    for size in range(1, 34):
        hash_at = hashes_of(everything[:size])
        assert roots[size] == subtree_root(0, size, hash_at)
        for index in range(size):
            proof = inclusion_proof(index, size, hash_at)
            verify_inclusion(everything[index], index, size, proof, roots[size])
        for old in range(1, size + 1):
            proof = consistency_proof(old, size, hash_at)
            verify_consistency(old, size, proof, roots[old], roots[size])


@given(sizes=st.lists(st.integers(0, 40), max_size=6))
def test_growth_in_any_steps_gives_one_root(sizes: list[int]) -> None:
    """A tree grown in any batches equals the definition, and survives being written as JSON."""
    everything = leaves(sum(sizes))
    frontier, done = Frontier(), 0
    for count in sizes:
        frontier = frontier.extend(everything[done : done + count])
        done += count
        frontier = Frontier.from_hex(frontier.size, json.loads(json.dumps(frontier.to_hex())))
        assert defined_root(everything[:done]) == frontier.root()
    one_by_one = Frontier()
    for leaf in everything:
        one_by_one = one_by_one.append(leaf)
    assert one_by_one == frontier


@settings(max_examples=200)
@given(data=st.data(), size=st.integers(2, 300))
def test_an_altered_proof_is_refused(data: st.DataObject, size: int) -> None:
    """Changing any bit of an inclusion proof, its leaf, its place or its length breaks it."""
    everything = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, hashes_of(everything))
    root = root_of(everything)
    verify_inclusion(everything[index], index, size, proof, root)
    which, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    altered = bytearray(proof[which])
    altered[bit // 8] ^= 1 << bit % 8
    wrong = [
        (index, size, [*proof[:which], bytes(altered), *proof[which + 1 :]], root),
        (index, size, proof[:-1], root),
        (index, size, [*proof, EMPTY_ROOT], root),
        (index, size, proof, EMPTY_ROOT),
        ((index + 1) % size, size, proof, root),
    ]
    for place, total, path, top in wrong:
        with pytest.raises(IntegrityError, match=r"proof|leads to root"):
            verify_inclusion(everything[index], place, total, path, top)


@settings(max_examples=100)
@given(old=st.integers(1, 200), more=st.integers(1, 200), changed=st.integers(0, 10_000))
def test_a_rewritten_history_is_not_consistent(old: int, more: int, changed: int) -> None:
    """A tree in which one old leaf was replaced has no proof back to the old root."""
    honest = leaves(old + more)
    rewritten = list(honest)
    rewritten[changed % old] = leaf_hash(b"replaced")
    proof = consistency_proof(old, old + more, hashes_of(rewritten))
    with pytest.raises(IntegrityError, match=r"another (old|new) root|no proof"):
        verify_consistency(old, old + more, proof, root_of(honest[:old]), root_of(rewritten))


@pytest.mark.parametrize(
    ("size", "hashes", "match"),
    [
        (3, ["00" * 32], "2 perfect subtrees, got 1"),
        (1, ["00" * 31], "32 bytes each"),
        (1, ["zz"], "stored as hex digits"),
        (-1, [], "perfect subtrees"),
    ],
)
def test_a_broken_frontier_is_refused(size: int, hashes: list[str], match: str) -> None:
    """What was stored of a tree must fit its size."""
    with pytest.raises(IntegrityError, match=match):
        Frontier.from_hex(size, hashes)


def test_proofs_of_what_is_not_there() -> None:
    """Asking for a leaf or a past that the tree never had is an input error."""
    hash_at = hashes_of(leaves(3))
    with pytest.raises(InputError, match="no leaf 3 in a tree of 3"):
        inclusion_proof(3, 3, hash_at)
    with pytest.raises(InputError, match="no earlier state of 4"):
        consistency_proof(4, 3, hash_at)
