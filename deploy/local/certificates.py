"""A development CA, one certificate per service, the key that signs access tokens, and a scheduler's own."""

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc.jwk import KeySet, OKPKey

from deploy.local.ports import HOST, SERVICES
from deploy.local.state import write_private

__all__ = [
    "CA_FILE",
    "OPERATOR",
    "SCHEDULER",
    "SCHEDULER_KEYS",
    "ensure_certificates",
    "ensure_credentials",
    "ensure_scheduler_key",
    "ensure_signing_key",
]

OPERATOR = "operator"  # for tools: a caller that is no service
CA_FILE = "ca.pem"
SCHEDULER = "holdfast-scheduler"  # an outside scheduler, as its tokens name it
SCHEDULER_KEYS = "scheduler.jwks"
_LIFE = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)


def ensure_credentials(folder: Path) -> None:
    """Everything below: what the services of one system are told by file."""
    ensure_certificates(folder)
    ensure_signing_key(folder / "signing.key")
    ensure_scheduler_key(folder)


def ensure_certificates(folder: Path, now: datetime | None = None) -> None:
    """Makes or renews `ca.pem` and `<name>.pem`, `<name>.key` for each service and the operator.

    A certificate is renewed when it has less than 30 days left or is not signed by the present CA.
    """
    now = now or datetime.now(UTC)
    ca_key, ca = _ensure_authority(folder, now)
    for name in (*SERVICES, OPERATOR):
        if not _usable(folder / f"{name}.pem", folder / f"{name}.key", ca, now):
            key = ec.generate_private_key(ec.SECP256R1())
            _store(folder, name, key, _issue(name, key, ca_key, ca, now))


def ensure_signing_key(path: Path) -> None:
    """Makes the Ed25519 key of access tokens if there is none."""
    if not path.exists():
        write_private(path, _pem(ed25519.Ed25519PrivateKey.generate()))


def ensure_scheduler_key(folder: Path) -> None:
    """Makes the key of an outside scheduler if there is none, and the public half that the services know."""
    path = folder / "scheduler.key"
    ensure_signing_key(path)
    key = OKPKey.import_key(path.read_bytes(), {"use": "sig", "alg": "Ed25519"})
    key.ensure_kid()
    write_private(folder / SCHEDULER_KEYS, json.dumps(KeySet([key]).as_dict(private=False)).encode())


def _ensure_authority(folder: Path, now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    path, key_path = folder / CA_FILE, folder / "ca.key"
    if path.exists() and key_path.exists():
        key = load_pem_private_key(key_path.read_bytes(), password=None)
        ca = x509.load_pem_x509_certificate(path.read_bytes())
        if isinstance(key, ec.EllipticCurvePrivateKey) and _lasts(ca, now):
            return key, ca
    key = ec.generate_private_key(ec.SECP256R1())
    ca = _authority(key, now)
    _store(folder, "ca", key, ca)
    return key, ca


def _usable(path: Path, key_path: Path, ca: x509.Certificate, now: datetime) -> bool:
    if not (path.exists() and key_path.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, InvalidSignature):
        return False
    return _lasts(certificate, now)


def _lasts(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_after_utc - now > _RENEW_BEFORE


def _builder(subject: str, public: ec.EllipticCurvePublicKey, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = "Holdfast development CA"
    return (
        _builder(name, key.public_key(), now)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _issue(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    now: datetime,
) -> x509.Certificate:
    hosts = [x509.DNSName(host) for host in ("localhost", name, f"{name}-grpc")]
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    issuer = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(name, key.public_key(), now)
        .issuer_name(ca.subject)
        .add_extension(x509.SubjectAlternativeName([*hosts, address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _store(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    write_private(folder / f"{name}.key", _pem(key))
    write_private(folder / f"{name}.pem", certificate.public_bytes(Encoding.PEM))


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
