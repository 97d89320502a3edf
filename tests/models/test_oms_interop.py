"""Both ways between our signatures and the `model_signing` command.

Set FREEHOLD_MODEL_SIGNING to a Python interpreter that has `model-signing` and `pyopenssl`;
without it a virtual environment is made, which needs a package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from freehold.errors import IntegrityError
from freehold.models.manifest import build_manifest
from freehold.models.oms import TrustedKey, TrustedRoots, sign_manifest, verify_model
from models.certificates import NOW, YEAR, Issued, issue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> str:
    given = os.environ.get("FREEHOLD_MODEL_SIGNING")
    if given:
        return given
    folder = tmp_path_factory.mktemp("model-signing")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    wanted = ["model-signing==1.1.1", "pyopenssl"]
    install = [python, "-m", "pip", "install", "--quiet", *wanted]
    done = subprocess.run(install, capture_output=True, text=True, timeout=500)
    if done.returncode:
        pytest.skip(f"model-signing could not be installed: {done.stderr[-200:]}")
    return python


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def keys(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(pem)
    return private, public


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for path in ("a.txt", "a/b.txt", "a-b.txt", "ünïcode.txt", "empty.txt", ".gitattributes"):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode() if path != "empty.txt" else b"")
    return folder


def command(interpreter: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [interpreter, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def test_the_command_verifies_what_we_sign(interpreter, model, keys, key, tmp_path):
    signature = tmp_path / "ours.sig"
    signature.write_bytes(sign_manifest(build_manifest(model), key, name=model.name))
    arguments = ("verify", "key", model, "--signature", signature, "--public_key", keys[1])

    done = command(interpreter, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr

    (model / "a.txt").write_bytes(b"changed")
    done = command(interpreter, *arguments)
    assert done.returncode != 0
    assert "a.txt" in done.stdout + done.stderr


def test_we_verify_what_the_command_signs(interpreter, model, keys, key, tmp_path):
    signature = tmp_path / "theirs.sig"
    done = command(
        interpreter, "sign", "key", model, "--private_key", keys[0], "--signature", signature
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trust = TrustedKey(key.public_key())

    assert "a/b.txt" in verify_model(model, signature.read_bytes(), trust).files

    (model / "a.txt").rename(model / "c.txt")
    with pytest.raises(IntegrityError, match=r"missing: a\.txt; not signed: c\.txt"):
        verify_model(model, signature.read_bytes(), trust)


def test_a_signature_file_inside_the_model_is_left_out_by_both(interpreter, model, keys, key):
    signature = model / "model.sig"
    done = command(
        interpreter, "sign", "key", model, "--private_key", keys[0], "--signature", signature
    )
    assert done.returncode == 0, done.stdout + done.stderr

    signed = verify_model(model, signature.read_bytes(), TrustedKey(key.public_key()))

    assert "model.sig" in signed.ignored


@pytest.mark.parametrize("expired", [False, True])
def test_their_certificate_signature_is_accepted_and_refused_once_expired(
    interpreter, model, keys, key, tmp_path, expired: bool
):
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = issue(Issued("root", authority=True, begins=NOW - 9 * YEAR), root_key)
    ends = NOW - YEAR if expired else NOW + YEAR
    leaf = issue(Issued(begins=NOW - 2 * YEAR, ends=ends), key, (root, root_key))
    certificate, authority = tmp_path / "leaf.pem", tmp_path / "root.pem"
    certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    authority.write_bytes(root.public_bytes(Encoding.PEM))
    signature = tmp_path / "theirs.sig"
    done = command(
        interpreter, "sign", "certificate", model, "--private_key", keys[0],
        "--signing_certificate", certificate, "--certificate_chain", authority,
        "--signature", signature,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

    if expired:
        with pytest.raises(IntegrityError, match="expired"):
            verify_model(model, signature.read_bytes(), TrustedRoots((root,)))
    else:
        signed = verify_model(model, signature.read_bytes(), TrustedRoots((root,)))
        assert signed.signer == "CN=publisher"
