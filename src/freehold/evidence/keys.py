"""The lab's own keys: Ed25519 for the ledger, ECDSA P-256 for models (OMS knows no Ed25519).

Private halves are files of mode 0600 under ``keys/`` and never leave the lab, not even in a bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.errors import IntegrityError, NotFound
from freehold.evidence.notes import Signer, Verifier
from freehold.lab.atomic import write_atomically
from freehold.lab.opened import Lab

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LOG_KEY, LOG_VKEY = "log.key", "log.vkey"
MODEL_KEY, MODEL_PUBLIC = "model.key", "model.pub.pem"


def make_keys(lab: Lab) -> None:
    """Make the keys that are not there yet. A key that exists is never replaced."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = lab.layout.keys
    if not (keys / LOG_KEY).exists():
        signer = Signer.generate(lab.origin)
        write_atomically(keys / LOG_KEY, (signer.to_private_text() + "\n").encode(), mode=0o600)
    vkey = log_signer(lab).verifier.vkey()
    write_atomically(keys / LOG_VKEY, (vkey + "\n").encode())
    if not (keys / MODEL_KEY).exists():
        private = ec.generate_private_key(ec.SECP256R1())
        pem = private.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        )
        write_atomically(keys / MODEL_KEY, pem, mode=0o600)
    public = model_key(lab).public_key()
    write_atomically(
        keys / MODEL_PUBLIC,
        public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
    )


def log_signer(lab: Lab) -> Signer:
    """Return the key that signs checkpoints. Raises NotFound where it is missing."""
    path = lab.layout.keys / LOG_KEY
    if not path.is_file():
        raise NotFound(f"the ledger's key is missing: {path}")
    signer = Signer.parse(path.read_text(encoding="utf-8"))
    if signer.verifier.name != lab.origin:
        raise IntegrityError(
            f"the ledger's key is named {signer.verifier.name}, the lab {lab.origin}",
            hint="lab.toml's `origin` is set once by `freehold init` and never changes.",
        )
    return signer


def log_verifier(lab: Lab) -> Verifier:
    """Return the public key of the ledger."""
    return Verifier.parse((lab.layout.keys / LOG_VKEY).read_text(encoding="utf-8").strip())


def model_key(lab: Lab) -> EllipticCurvePrivateKey:
    """Return the key that signs models."""
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
    )

    key = load_pem_private_key((lab.layout.keys / MODEL_KEY).read_bytes(), password=None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise IntegrityError(f"{MODEL_KEY} is not an elliptic-curve key")
    return key
