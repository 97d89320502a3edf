"""Certificates for tests, each wrong in at most one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Issued:
    """One certificate to make. Defaults make a leaf that may sign."""

    name: str = "publisher"
    authority: bool = False
    begins: datetime = NOW - YEAR
    ends: datetime = NOW + YEAR
    signs: bool = True
    code_signing: bool = False
    path_length: int | None = None


def issue(
    issued: Issued,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issued.name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issued.begins)
        .not_valid_after(issued.ends)
        .add_extension(x509.BasicConstraints(issued.authority, issued.path_length), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=issued.signs and not issued.authority,
                key_cert_sign=issued.authority,
                crl_sign=issued.authority,
                key_encipherment=False,
                content_commitment=False,
                data_encipherment=False,
                key_agreement=not issued.authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if issued.code_signing:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())
