"""Signatures in the OMS format: what is accepted, and that every refusal names its reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from freehold.errors import InputError, IntegrityError
from freehold.models.manifest import build_manifest
from freehold.models.oms import (
    PAYLOAD_TYPE,
    TrustedKey,
    TrustedRoots,
    load_certificates,
    sign_manifest,
    verify_model,
    verify_signature,
)
from models.certificates import NOW, YEAR, Issued, issue


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"first")
    (folder / "sub" / "b.txt").write_bytes(b"second")
    (folder / ".gitattributes").write_bytes(b"*.bin lfs")
    return folder


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sign(model: Path, key: ec.EllipticCurvePrivateKey) -> bytes:
    return sign_manifest(build_manifest(model), key, name=model.name)


def payload_of(signature: bytes) -> dict[str, object]:
    return json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))


def test_what_was_signed_verifies_and_names_every_file(model, key):
    signed = verify_model(model, sign(model, key), TrustedKey(key.public_key()))

    assert signed.name == "model"
    assert sorted(signed.files) == ["a.txt", "sub/b.txt"]
    assert signed.signer.startswith("key ")


def change(model: Path) -> None:
    (model / "a.txt").write_bytes(b"First")


def rename(model: Path) -> None:
    (model / "a.txt").rename(model / "a2.txt")


def add(model: Path) -> None:
    (model / "extra.txt").write_bytes(b"new")


def remove(model: Path) -> None:
    (model / "sub" / "b.txt").unlink()


def swap(model: Path) -> None:
    (model / "a.txt").write_bytes(b"second")
    (model / "sub" / "b.txt").write_bytes(b"first")


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (change, "changed: a.txt"),
        (rename, "missing: a.txt; not signed: a2.txt"),
        (add, "not signed: extra.txt"),
        (remove, "missing: sub/b.txt"),
        (swap, "changed: a.txt; changed: sub/b.txt"),
    ],
)
def test_altered_folders_are_refused_by_file_name(
    model, key, alter: Callable[[Path], None], named: str
):
    signature = sign(model, key)
    alter(model)

    with pytest.raises(IntegrityError, match=named):
        verify_model(model, signature, TrustedKey(key.public_key()))


def test_another_key_is_refused(model, key):
    other = ec.generate_private_key(ec.SECP256R1()).public_key()

    with pytest.raises(IntegrityError, match="not signed by the trusted key"):
        verify_model(model, sign(model, key), TrustedKey(other))


def test_another_key_with_the_hint_removed_is_refused_by_the_signature(model, key):
    bundle = json.loads(sign(model, key))
    bundle["verificationMaterial"]["publicKey"] = {}
    other = ec.generate_private_key(ec.SECP256R1()).public_key()

    with pytest.raises(IntegrityError, match="not valid under the trusted key"):
        verify_signature(json.dumps(bundle).encode(), TrustedKey(other))


def test_a_changed_payload_is_refused(model, key):
    bundle = json.loads(sign(model, key))
    payload = payload_of(json.dumps(bundle).encode())
    payload["subject"][0]["name"] = "another"
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()

    with pytest.raises(IntegrityError, match="not valid under the trusted key"):
        verify_signature(json.dumps(bundle).encode(), TrustedKey(key.public_key()))


def resign(payload: dict[str, object], key: ec.EllipticCurvePrivateKey, signature: bytes) -> bytes:
    raw = json.dumps(payload).encode()
    pae = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(raw)} ".encode() + raw
    bundle = json.loads(signature)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(raw).decode()
    signed = key.sign(pae, ec.ECDSA(hashes.SHA256()))
    bundle["dsseEnvelope"]["signatures"] = [{"sig": base64.b64encode(signed).decode()}]
    return json.dumps(bundle).encode()


def test_a_wrong_root_digest_is_refused_even_when_signed(model, key):
    signature = sign(model, key)
    payload = payload_of(signature)
    payload["subject"][0]["digest"]["sha256"] = "0" * 64

    with pytest.raises(IntegrityError, match="its root digest is wrong"):
        verify_signature(resign(payload, key, signature), TrustedKey(key.public_key()))


def test_shards_are_refused_with_the_way_forward(model, key):
    signature = sign(model, key)
    payload = payload_of(signature)
    payload["predicate"]["serialization"]["method"] = "shards"

    with pytest.raises(InputError, match="signed as shards with sha256") as caught:
        verify_signature(resign(payload, key, signature), TrustedKey(key.public_key()))
    assert "default settings" in caught.value.hint


@pytest.mark.parametrize(
    "signature", [b"", b"{}", b"[]", b'{"mediaType": "text/plain"}', b"\x00\xff", b"null"]
)
def test_other_files_are_not_taken_for_signatures(key, signature: bytes):
    with pytest.raises(InputError, match=r"OMS v1\.0 format|bundle of type"):
        verify_signature(signature, TrustedKey(key.public_key()))


def test_only_p256_signs(model):
    with pytest.raises(InputError, match="ECDSA P-256, the key is on secp384r1"):
        sign(model, ec.generate_private_key(ec.SECP384R1()))


@dataclass(frozen=True)
class Chain:
    """Root, intermediate and leaf, and the signature file made with them."""

    root: x509.Certificate
    signature: bytes


def chain(
    model: Path, leaf: Issued, *, middle: Issued | None = None, leave_out: bool = False
) -> Chain:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    root = issue(Issued("root", authority=True, ends=NOW + 9 * YEAR), keys[0])
    between = issue(middle or Issued("middle", authority=True), keys[1], (root, keys[0]))
    end = issue(leaf, keys[2], (between, keys[1]))
    bundle = json.loads(sign(model, keys[2]))
    sent = [end] if leave_out else [end, between]
    bundle["verificationMaterial"] = {
        "x509CertificateChain": {
            "certificates": [
                {"rawBytes": base64.b64encode(one.public_bytes(Encoding.DER)).decode()}
                for one in sent
            ]
        },
        "tlogEntries": [],
    }
    return Chain(root, json.dumps(bundle).encode())


@pytest.mark.parametrize("leaf", [Issued(), Issued(signs=False, code_signing=True)])
def test_a_certificate_under_a_trusted_root_is_accepted(model, leaf: Issued):
    made = chain(model, leaf)

    signed = verify_model(model, made.signature, TrustedRoots((made.root,), NOW))

    assert signed.signer == "CN=publisher"


@pytest.mark.parametrize(
    ("leaf", "middle", "leave_out", "message"),
    [
        (Issued(ends=NOW - timedelta(days=1)), None, False, "expired or not yet valid"),
        (Issued(begins=NOW + timedelta(days=1)), None, False, "expired or not yet valid"),
        (Issued(signs=False), None, False, "key usage does not include signing"),
        (Issued(), None, True, "no path from the signing certificate"),
        (Issued(), Issued("middle", authority=False), False, "no path from the signing"),
        (
            Issued(),
            Issued("middle", authority=True, ends=NOW - timedelta(days=1)),
            False,
            "no path from the signing certificate",
        ),
    ],
    ids=["expired", "not-yet", "usage", "no-middle", "middle-no-ca", "middle-expired"],
)
def test_certificates_are_checked_in_full(model, leaf, middle, leave_out, message):
    made = chain(model, leaf, middle=middle, leave_out=leave_out)

    with pytest.raises(IntegrityError, match=message):
        verify_model(model, made.signature, TrustedRoots((made.root,), NOW))


def test_a_certificate_that_was_valid_once_is_refused_now(model):
    made = chain(model, Issued(ends=NOW - timedelta(days=1)))

    verify_model(model, made.signature, TrustedRoots((made.root,), NOW - timedelta(days=2)))
    with pytest.raises(IntegrityError, match="expired"):
        verify_model(model, made.signature, TrustedRoots((made.root,)))


def test_another_root_of_the_same_name_is_refused(model):
    made, other = chain(model, Issued()), chain(model, Issued())

    with pytest.raises(IntegrityError, match="no path"):
        verify_model(model, made.signature, TrustedRoots((other.root,), NOW))


def test_roots_of_a_file_without_certificates():
    with pytest.raises(InputError, match="no certificate in PEM form"):
        load_certificates(b"hello")
    root = issue(replace(Issued("root"), authority=True), ec.generate_private_key(ec.SECP256R1()))
    assert load_certificates(root.public_bytes(Encoding.PEM)) == [root]
