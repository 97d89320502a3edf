"""Signatures of model folders in the OpenSSF Model Signing format, version 1.0.

A signature file is a Sigstore bundle v0.3 around a DSSE envelope around an in-toto statement
that names every file with its SHA-256. Written here in full, so that the verifier can be read
in one sitting and archived with the evidence; interoperability with the `model_signing` command
is tested in both directions.

Sources: OMS v1.0 (ossf/model-signing-spec, spec/v1.0.md); DSSE v1.0.0 protocol.md; in-toto
attestation Statement v1; RFC 5280 for certificate paths. Revocation lists are not consulted:
a key that leaked is withdrawn by taking it out of the trust roots.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from freehold.errors import InputError, IntegrityError
from freehold.models.manifest import Manifest, build_manifest, check_path

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
# Excluded by the format unless asked for; the model's own digest does cover them.
IGNORED_PATHS: Final = (".git", ".gitattributes", ".github", ".gitignore")
_HASH_OF_CURVE: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """Accept what this public key signed (OMS method `key`)."""

    key: ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class TrustedRoots:
    """Accept what a certificate under one of these roots signed, valid at ``at`` (default now)."""

    roots: tuple[x509.Certificate, ...]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SignedModel:
    """What a valid signature says: name, files (path to SHA-256 in hex), and who signed."""

    name: str
    files: dict[str, str]
    ignored: tuple[str, ...]
    signer: str


def sign_manifest(manifest: Manifest, key: ec.EllipticCurvePrivateKey, *, name: str) -> bytes:
    """Return the signature file for a manifest that was just built from the model's folder.

    ``key`` is an ECDSA P-256 key; ``name`` the basename of the folder, which a verifier shows
    and does not compare. Raises InputError for another curve.
    """
    if key.curve.name != "secp256r1":
        raise InputError(f"models are signed with ECDSA P-256, the key is on {key.curve.name}")
    files = {entry.path: entry.sha256 for entry in manifest.files if not _ignored(entry.path)}
    payload = json.dumps(_statement(files, name), sort_keys=True).encode("utf-8")
    signature = key.sign(_pae(payload), ec.ECDSA(hashes.SHA256()))
    bundle = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": _fingerprint(key.public_key())},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode("ascii"), "keyid": ""}],
        },
    }
    return json.dumps(bundle, separators=(",", ":")).encode("utf-8")


def verify_model(
    directory: Path, signature: bytes, trust: TrustedKey | TrustedRoots
) -> SignedModel:
    """Verify the signature, then every file of ``directory`` against it.

    Raises IntegrityError for a wrong signature, an untrusted or expired certificate, or files
    that were changed, added, removed or renamed (named in the message); InputError for a
    signature file of another format; UnsafeModel for links that leave the folder.
    """
    signed = verify_signature(signature, trust)
    compare_files(signed, build_manifest(directory))
    return signed


def verify_signature(signature: bytes, trust: TrustedKey | TrustedRoots) -> SignedModel:
    """Verify who signed and return what was signed; the files themselves are not looked at."""
    try:
        bundle = json.loads(signature)
        if bundle["mediaType"] != BUNDLE_TYPE:
            raise InputError(f"a bundle of type {bundle['mediaType']!r}, expected {BUNDLE_TYPE!r}")
        material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        (signed,) = envelope["signatures"]
        raw = base64.b64decode(signed["sig"], validate=True)
        payload_type = envelope["payloadType"]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise InputError(f"not a model signature in the OMS v1.0 format: {error!r}") from error
    if payload_type != PAYLOAD_TYPE:
        raise InputError(f"a signed payload of type {payload_type!r}, expected {PAYLOAD_TYPE!r}")
    key, signer = _trusted_key(material, trust)
    try:
        key.verify(raw, _pae(payload), ec.ECDSA(_hash_for(key)))
    except InvalidSignature as error:
        raise IntegrityError(
            "the model signature is not valid under the trusted key",
            hint="Ask the publisher for the signature and key that belong to this version.",
        ) from error
    return _read_statement(payload, signer)


def compare_files(signed: SignedModel, manifest: Manifest) -> None:
    """Raise IntegrityError naming every file that differs from what was signed."""
    actual = {
        entry.path: entry.sha256
        for entry in manifest.files
        if not any(_below(entry.path, ignored) for ignored in signed.ignored)
    }
    faults = [f"missing: {path}" for path in sorted(signed.files.keys() - actual.keys())]
    faults += [f"not signed: {path}" for path in sorted(actual.keys() - signed.files.keys())]
    common = sorted(signed.files.keys() & actual.keys())
    faults += [f"changed: {path}" for path in common if signed.files[path] != actual[path]]
    if faults:
        raise IntegrityError(
            f"model {signed.name!r} is not what {signed.signer} signed: {'; '.join(faults[:10])}",
            hint="Fetch the model again from its publisher; do not use these files.",
            files=faults,
        )


def _statement(files: dict[str, str], name: str) -> dict[str, Any]:
    ordered = sorted(files.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(sha256) for _, sha256 in ordered))
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root.hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": sha256} for path, sha256 in ordered
            ],
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(IGNORED_PATHS),
            },
        },
    }


def _read_statement(payload: bytes, signer: str) -> SignedModel:
    try:
        statement = json.loads(payload)
        found = (statement["_type"], statement["predicateType"])
        if found != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise InputError(f"a signed statement of type {found}, expected OMS v1.0")
        (subject,) = statement["subject"]
        predicate = statement["predicate"]
        rule = predicate["serialization"]
        if (rule["method"], rule["hash_type"]) != ("files", "sha256"):
            raise InputError(
                f"signed as {rule['method']} with {rule['hash_type']}; files with sha256 are read",
                hint="Ask the publisher to sign with the default settings of model_signing.",
            )
        ignored = tuple(str(path) for path in rule.get("ignore_paths", ()))
        files = {str(one["name"]): str(one["digest"]) for one in predicate["resources"]}
        root = hashlib.sha256(b"".join(bytes.fromhex(o["digest"]) for o in predicate["resources"]))
        named, name = subject["digest"]["sha256"], str(subject["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the signed statement is not in the OMS v1.0 format: {error!r}"
        ) from error
    for path in files:
        check_path(path)
    if len(files) != len(predicate["resources"]) or root.hexdigest() != named:
        raise IntegrityError("the signed statement contradicts itself: its root digest is wrong")
    return SignedModel(name, files, ignored, signer)


def _trusted_key(
    material: dict[str, Any], trust: TrustedKey | TrustedRoots
) -> tuple[ec.EllipticCurvePublicKey, str]:
    if isinstance(trust, TrustedRoots):
        leaf = _verified_leaf(material, trust)
        key = leaf.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InputError("the signing certificate holds a key that is not elliptic-curve")
        return key, leaf.subject.rfc4514_string()
    fingerprint = _fingerprint(trust.key)
    hint = material.get("publicKey", {}).get("hint")
    if "publicKey" not in material or (hint and hint != fingerprint):
        raise IntegrityError(
            f"the model was not signed by the trusted key {fingerprint[:16]}…",
            hint="Compare key fingerprints with the publisher over another channel.",
        )
    return trust.key, f"key {fingerprint[:16]}…"


def _verified_leaf(material: dict[str, Any], trust: TrustedRoots) -> x509.Certificate:
    """Check the whole path to a root, validity at the time of verification, and key usage.

    OMS v1.0 §8.2. The time of signing is not proven by a certificate, so a leaf that has
    expired by now proves nothing.
    """
    try:
        encoded = material["x509CertificateChain"]["certificates"]
        leaf, *others = [
            x509.load_der_x509_certificate(base64.b64decode(one["rawBytes"])) for one in encoded
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the signature carries no readable certificate: {error!r}") from error
    at = trust.at or datetime.now(UTC)
    if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
        raise IntegrityError(
            f"the signing certificate is not valid at {at:%Y-%m-%d}: it was issued for "
            f"{leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d} (expired "
            "or not yet valid)",
            hint="Ask the publisher for a signature under a current certificate.",
        )
    policies = {"ca_policy": _issuer_policy(), "ee_policy": _leaf_policy()}
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(list(trust.roots)))
        .time(at.astimezone(UTC).replace(tzinfo=None))
        .extension_policies(**policies)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, others)
    except verification.VerificationError as error:
        raise IntegrityError(
            f"no path from the signing certificate to a trusted root: {error}",
            hint="Give the publisher's root certificate, or ask for the missing intermediate.",
        ) from error
    return leaf


def _issuer_policy() -> verification.ExtensionPolicy:
    def is_authority(
        _: verification.Policy, __: x509.Certificate, extension: x509.BasicConstraints
    ) -> None:
        if not extension.ca:
            raise ValueError("an issuer that is not a certificate authority")

    def may_issue(
        _: verification.Policy, __: x509.Certificate, extension: x509.KeyUsage | None
    ) -> None:
        if extension is not None and not extension.key_cert_sign:
            raise ValueError("an issuer whose key may not sign certificates")

    either = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, either, is_authority)
        .may_be_present(x509.KeyUsage, either, may_issue)
    )


def _leaf_policy() -> verification.ExtensionPolicy:
    def may_sign(
        _: verification.Policy, leaf: x509.Certificate, extension: x509.KeyUsage | None
    ) -> None:
        if extension is not None and extension.digital_signature:
            return
        if not _may_sign_code(leaf):
            raise ValueError("the certificate's key usage does not include signing")

    either = verification.Criticality.AGNOSTIC
    return verification.ExtensionPolicy.permit_all().may_be_present(x509.KeyUsage, either, may_sign)


def _may_sign_code(leaf: x509.Certificate) -> bool:
    try:
        extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CODE_SIGNING in extended


def _pae(payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding of an in-toto payload."""
    return f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def _fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _hash_for(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    try:
        return _HASH_OF_CURVE[key.curve.name]
    except KeyError as error:
        raise InputError(f"OMS knows P-256, P-384 and P-521, not {key.curve.name}") from error


def _ignored(path: str) -> bool:
    return any(_below(path, ignored) for ignored in IGNORED_PATHS)


def _below(path: str, ignored: str) -> bool:
    return path == ignored or path.startswith(f"{ignored}/")


def load_certificates(pem: bytes) -> Sequence[x509.Certificate]:
    """Read PEM certificates, for `TrustedRoots`. Raises InputError when there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InputError(f"no certificate in PEM form: {error}") from error
