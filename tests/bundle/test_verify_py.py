"""The verifier inside every bundle: alone it agrees with Freehold, and misses no altered byte."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.bundle.verifier import verify
from freehold.canonical.json import encode
from freehold.canonical.merkle import leaf_hash, root_of
from freehold.evidence.notes import COSIGNS, Checkpoint, Signer, sign_note
from small_bundle import (
    LOG,
    WITNESS,
    Shape,
    contents,
    make_bundle,
    make_model,
    seal,
    sign_manifest,
    write,
)

SCRIPT = Path(verify.__file__)


def failures(root: Path, *trust: str) -> list[tuple[str, str]]:
    report = verify.verify_bundle(root, trust)
    assert report.ok == (not any(one.status == "FAIL" for one in report.results))
    return [(one.file, one.detail) for one in report.results if one.status == "FAIL"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(make_bundle(tmp_path_factory.mktemp("made")))


@pytest.fixture
def bundle(tmp_path: Path, made: dict[str, bytes]) -> Path:
    root = tmp_path / "bundle"
    for path, data in made.items():
        write(root, path, data)
    return root


def run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script as an auditor does: isolated, with the standard library only."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_good_bundle(bundle: Path) -> None:
    """Each check prints one line with what it covered; the exit code is 0."""
    result = run(bundle)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ok   files (")
    assert lines[1].startswith(
        "note key: key taken from the bundle itself: compare it with one you"
    )
    assert lines[2:] == [
        "ok   signature (by test.example/log)",
        "ok   ledger (12 entries)",
        "ok   witnesses (w.example)",
        "ok   receipts (1 receipts, 1 payloads opened)",
        "ok   datasets/d (4 rows, 1 erased, root in the ledger)",
        "absent suites: the bundle has none",
        lines[8],
        "absent state: the bundle holds part of a lab, which cannot be restored from it",
        "everything holds",
    ]
    assert lines[8].startswith("ok   models/m (2 of 2 files, sha256:")


def test_json_output(bundle: Path) -> None:
    """With --json one document says the same, and a failure is in it and in the exit code."""
    trust = ("--trust", LOG.verifier.vkey(), "--trust", WITNESS.verifier.vkey())
    good = run(bundle, "--json", *trust)
    assert (good.returncode, json.loads(good.stdout)["ok"]) == (0, True)
    key = {"status": "ok", "what": "key", "detail": "the one you trust, test.example/log"}
    assert key | {"file": ""} in json.loads(good.stdout)["results"]
    (bundle / "datasets/d/rows.jsonl").write_bytes(b"")
    bad = run(bundle, "--json")
    assert (bad.returncode, json.loads(bad.stdout)["ok"]) == (1, False)
    assert "datasets/d/rows.jsonl" in {one["file"] for one in json.loads(bad.stdout)["results"]}


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_flipped_byte_names_its_file(bundle: Path, made: dict[str, bytes], step: int) -> None:
    """Each byte of each file, altered: the bundle fails, and the altered file is named."""
    for path, data in made.items():
        for position in range(0, len(data), step):
            altered = bytearray(data)
            altered[position] ^= 1 << position % 8
            (bundle / path).write_bytes(altered)
            named = {file.split(":")[0] for file, _ in failures(bundle)}
            assert path in named or (path == "MANIFEST.json" and "manifest.note" in named), path
        (bundle / path).write_bytes(data)
    assert failures(bundle) == []


BOUND = ("ledger/tile", "ledger/checkpoint", "receipts/", "datasets/d/rows", "models/m/files")


def test_flips_are_found_without_the_manifest(bundle: Path, made: dict[str, bytes]) -> None:
    """Also when the manifest was made and signed anew, with the lab's own key, over the damage."""
    for path, data in made.items():
        if not path.startswith(BOUND):
            continue
        for position in range(0, len(data), max(1, len(data) // 40)):
            altered = bytearray(data)
            altered[position] ^= 1 << position % 8
            (bundle / path).write_bytes(altered)
            seal(bundle)
            assert path in {file.split(":")[0] for file, _ in failures(bundle)}, (path, position)
        (bundle / path).write_bytes(data)


Change = Callable[[Path], object]


def _edit(path: str, **changes: Any) -> Change:
    def edit(root: Path) -> None:
        record = json.loads((root / path).read_bytes()) | changes
        write(root, path, encode(record))
        seal(root)

    return edit


def _replace(path: str, old: bytes, new: bytes) -> Change:
    def replace(root: Path) -> None:
        data = (root / path).read_bytes()
        assert old in data
        write(root, path, data.replace(old, new))
        seal(root)

    return replace


def _write(path: str, data: bytes, *, sealed: bool = True) -> Change:
    def put(root: Path) -> None:
        write(root, path, data)
        if sealed:
            seal(root)

    return put


def _remove(path: str, *, sealed: bool = True) -> Change:
    def remove(root: Path) -> None:
        (root / path).unlink()
        if sealed:
            seal(root)

    return remove


def _manifest(value: Any) -> Change:
    def put(root: Path) -> None:
        write(root, "MANIFEST.json", value if isinstance(value, bytes) else encode(value))
        sign_manifest(root)

    return put


def _another_history(root: Path) -> None:
    text = Checkpoint(LOG.verifier.name, 12, root_of([leaf_hash(b"x")] * 12)).text()
    write(root, "ledger/checkpoint", (sign_note(text, LOG) + WITNESS.sign(text)).encode())
    seal(root)


def _huge_head(root: Path) -> None:
    text = Checkpoint(LOG.verifier.name, 2**39, b"r" * 32).text()
    write(root, "ledger/checkpoint", (sign_note(text, LOG) + WITNESS.sign(text)).encode())
    seal(root)


ENTRY_OUTSIDE = [{"path": "../x", "size": 1, "sha256": "0" * 64}]
STRANGER = Signer.generate("test.example/log")
OTHER_WITNESS = Signer.generate("other.example", COSIGNS)


@pytest.mark.parametrize(
    ("change", "file", "detail"),
    [
        (_remove("keys/log.vkey"), "keys/log.vkey", "missing"),
        (_remove("models/m/files/config.json", sealed=False),
         "models/m/files/config.json", "missing"),
        (_remove("MANIFEST.json", sealed=False), "MANIFEST.json", "missing"),
        (_remove("manifest.note", sealed=False), "manifest.note", "missing"),
        (_write("more", b"x", sealed=False), "more", "extra"),
        (_write("keys/log.vkey", b"\xff"), "keys/log.vkey", "not UTF-8"),
        (_write("keys/log.vkey", b"x+y+z"), "keys/log.vkey", "not a verifier key"),
        (_manifest(ENTRY_OUTSIDE), "MANIFEST.json", "no path inside"),
        (_manifest([{"path": "/x", "size": 1, "sha256": ""}]), "MANIFEST.json", "no path inside"),
        (_manifest([{"path": 1}]), "MANIFEST.json", "no 'path' of type str"),
        (_manifest([{"path": "x", "size": True}]), "MANIFEST.json", "no 'size' of type int"),
        (_manifest([[]]), "MANIFEST.json", "no 'path'"),
        (_manifest({}), "MANIFEST.json", "not a list"),
        (_manifest(b"[" * 200_000), "MANIFEST.json", "not canonical JSON"),
        (_manifest(b"[" + b"9" * 100_000 + b"]"), "MANIFEST.json", "is beyond"),
        (_manifest(b"[1.5]"), "MANIFEST.json", "not a whole number"),
        (_manifest(b"[NaN]"), "MANIFEST.json", "not a whole number"),
        (_manifest(b'[{"a":1,"a":1}]'), "MANIFEST.json", "stands twice"),
        (_manifest(b"[ ]"), "MANIFEST.json", "not in canonical form"),
        (_manifest(b'["\\ud800"]'), "MANIFEST.json", "not canonical JSON"),
        (lambda root: seal(root, STRANGER), "manifest.note", "not signed by"),
        (_remove("keys/witness/w.vkey", sealed=False), "keys/witness/w.vkey", "missing"),
        (_write("keys/witness/o.vkey", OTHER_WITNESS.verifier.vkey().encode()),
         "ledger/checkpoint", "not cosigned by other.example"),
        (_remove("ledger/checkpoint"), "ledger/checkpoint", "missing"),
        (_remove("ledger/tile/entries/000.p/12"), "ledger/tile/entries/000.p/12", "missing"),
        (_write("ledger/tile/0/001", b"x"), "ledger/tile/0/001", "extra"),
        (_another_history, "ledger/checkpoint", "lead to root"),
        (_huge_head, "ledger/tile/entries/000", "missing"),
        (_replace("ledger/tile/entries/000.p/12", b"ent_7", b"ent_8"),
         "ledger/tile/entries/000.p/12", "entry 7 is not the one"),
        (_edit("receipts/dec_1.json", entry='{"entry_id":"x"}'),
         "receipts/dec_1.json", "does not lead"),
        (_edit("receipts/dec_1.json", opened=[{"at": "/rows", "utf8": "x"}]),
         "receipts/dec_1.json", "not what the entry commits to"),
        (_edit("receipts/dec_1.json", proof="x"), "receipts/dec_1.json", "not a tlog-proof"),
        (_edit("receipts/dec_1.json", format="y"), "receipts/dec_1.json", "not a receipt"),
        (_write("receipts/x.json", b"{}"), "receipts/x.json", "no 'format'"),
        (_edit("datasets/d/manifest.json", root="sha256:00"),
         "datasets/d/rows.jsonl", "4 rows have"),
        (_edit("datasets/d/manifest.json", entry_id="ent_9"),
         "datasets/d/manifest.json", "not hold"),
        (_edit("datasets/d/manifest.json", entry_id="e"), "datasets/d/manifest.json", "no entry e"),
        (_replace("datasets/d/rows.jsonl", b"row 2", b"row 9"),
         "datasets/d/rows.jsonl:3", "commitment"),
        (_write("datasets/d/rows.jsonl", b"{}"), "datasets/d/rows.jsonl", "is cut"),
        (_remove("datasets/d/manifest.json"), "datasets/d/rows.jsonl", "no manifest.json"),
        (_remove("datasets/d/rows.jsonl"), "datasets/d/rows.jsonl", "missing"),
        (_edit("models/m/manifest.json", kind="merged"), "models/m/manifest.json", "its digest is"),
        (_write("models/m/files/extra.bin", b"x"), "models/m/files/extra.bin", "extra"),
        (_remove("models/m/files/config.json"), "models/m/files/config.json", "missing"),
    ],
)  # fmt: skip
def test_what_does_not_hold(bundle: Path, change: Change, file: str, detail: str) -> None:
    """Whatever is wrong is reported by file and kind, and the script ends with 1, not a crash."""
    change(bundle)
    found = failures(bundle)
    assert [one for one in found if one[0] == file and detail in one[1]], found


def test_another_key_is_caught_by_trust(bundle: Path) -> None:
    """A bundle made anew from end to end with another key holds by itself, but not for you."""
    assert failures(bundle, LOG.verifier.vkey(), WITNESS.verifier.vkey()) == []
    stranger = STRANGER.verifier.vkey()
    assert ("keys/log.vkey", f"{LOG.verifier.vkey()} is not the key you trust") in failures(
        bundle, stranger
    )
    found = failures(bundle, OTHER_WITNESS.verifier.vkey())
    assert found == [("ledger/checkpoint", "not cosigned by other.example (--trust other.example)")]
    assert failures(bundle, "nonsense")[0][0] == "--trust"


def test_links_and_devices_are_refused(bundle: Path) -> None:
    """Neither a link out of the bundle nor a pipe, which would block a reader, is opened."""
    (bundle / "receipts/link.json").symlink_to("/etc/hostname")
    (bundle / "folder").symlink_to("/etc")
    os.mkfifo(bundle / "datasets/pipe")
    named = {file for file, detail in failures(bundle) if "link or device" in detail}
    assert named == {"receipts/link.json", "folder", "datasets/pipe"}


def test_names_cannot_forge_lines(bundle: Path) -> None:
    """A file name with control characters is printed escaped."""
    write(bundle, "x\n\x1b[2Jok   files", b"")
    result = run(bundle)
    assert result.returncode == 1
    assert "x\\n\\x1b[2Jok   files" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_no_bundle_at_all(tmp_path: Path, folder: str) -> None:
    """An empty or missing folder is a failure: nothing checked is nothing proved."""
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / folder)
    assert (result.returncode, result.stderr) == (1, "")
    assert "FAIL bundle: " in result.stdout
    assert "no files: is this the bundle's folder?" in result.stdout or folder == "missing"


def test_optional_parts_are_reported_as_absent(tmp_path: Path) -> None:
    """A bundle of keys and a note holds, and says what it does not have."""
    write(tmp_path, "keys/log.vkey", LOG.verifier.vkey().encode())
    seal(tmp_path)
    report = verify.verify_bundle(tmp_path)
    assert report.ok
    absent = [one.what for one in report.results if one.status == "absent"]
    assert absent == ["ledger", "receipts", "datasets", "suites", "models", "state"]


def test_withheld_weights(bundle: Path) -> None:
    """Weights that a licence keeps out may be missing if the bundle says so; present ones count."""
    make_model(bundle, "base", {"weights": b"secret", "config.json": b"{}"})
    (bundle / "models/base/files/weights").unlink()
    write(bundle, "models/base/WITHHELD.txt", b"The licence does not allow passing them on.\n")
    seal(bundle)
    assert failures(bundle) == []
    lines = list(verify.verify_bundle(bundle).lines())
    assert any("1 of 2 files, the others are withheld" in line for line in lines)
    write(bundle, "models/base/files/config.json", b"[]")
    seal(bundle)
    assert [file for file, _ in failures(bundle)] == ["models/base/files/config.json"]


def test_a_ledger_of_several_levels(tmp_path: Path) -> None:
    """Full tiles and the levels above them are worked out again and compared."""
    make_bundle(tmp_path, Shape(entries=600))
    assert failures(tmp_path) == []
    tile = tmp_path / "ledger/tile/1/000.p/2"
    tile.write_bytes(tile.read_bytes()[:32] + b"x" * 32)
    seal(tmp_path)
    assert failures(tmp_path) == [
        ("ledger/tile/1/000.p/2", "hash 1 is not the root of the tile below")
    ]


def test_the_deadline_holds(bundle: Path) -> None:
    """When the time is up, the check ends and does not pass."""
    report = verify.verify_bundle(bundle, deadline=0)
    assert not report.ok
    assert "the deadline has passed" in next(report.lines())


def test_it_needs_the_standard_library_only() -> None:
    """The script imports nothing else and parses as Python 3.8."""
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [one.name for one in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert imported <= sys.stdlib_module_names


@settings(max_examples=40, deadline=None)
@given(
    seed=st.binary(min_size=32, max_size=32), text=st.binary(max_size=200), bit=st.integers(0, 511)
)
def test_ed25519_agrees_with_cryptography(seed: bytes, text: bytes, bit: int) -> None:
    """Our verification accepts and refuses what OpenSSL does."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    signature = private.sign(text)
    assert verify.ed25519_valid(public, text, signature)
    altered = bytearray(signature)
    altered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidSignature):
        private.public_key().verify(bytes(altered), text)
    assert not verify.ed25519_valid(public, text, bytes(altered))
    assert not verify.ed25519_valid(public, text + b"x", signature)


RFC8032 = [
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
]  # fmt: skip


@pytest.mark.parametrize(("public", "text", "signature"), RFC8032)
def test_the_vectors_of_rfc_8032(public: str, text: str, signature: str) -> None:
    """The first three published test vectors hold; a scalar beyond the order is refused."""
    key, message, given = (bytes.fromhex(one) for one in (public, text, signature))
    assert verify.ed25519_valid(key, message, given)
    scalar = int.from_bytes(given[32:], "little") + verify.ORDER
    assert not verify.ed25519_valid(key, message, given[:32] + scalar.to_bytes(32, "little"))
    assert not verify.ed25519_valid(b"\xff" * 32, message, given)
    assert not verify.ed25519_valid(b"\x02" + b"\x00" * 31, message, given)
    assert not verify.ed25519_valid(key[:31], message, given)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_its_canonical_form_is_ours(value: Any) -> None:
    """The small canonicaliser gives the bytes that the library gives."""
    assert verify.canonical(value) == encode(value)
    assert verify.parse(encode(value), "x") == value


def test_keys_beyond_the_basic_plane_are_ordered_by_utf16(shared_data: Path) -> None:
    """The published vector with such keys comes out, and a pair that code points would swap."""
    vectors = shared_data / "specs/jcs-rfc8785"
    value = json.loads((vectors / "input/weird.json").read_bytes())
    assert verify.canonical(value) == (vectors / "output/weird.json").read_bytes()
    swapped = {"\ufb33": 1, "\U0001f602": 2}
    assert list(json.loads(verify.canonical(swapped))) == ["\U0001f602", "\ufb33"]
    assert verify.canonical(swapped) == encode(swapped)
