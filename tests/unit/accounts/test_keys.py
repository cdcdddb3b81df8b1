"""The signing key: what it vouches for, and what it refuses to start with."""

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from joserfc.jwk import OKPKey

from reliability.context import Principal
from reliability.errors import Unauthenticated
from reliability.tokens import TokenVerifier
from services.accounts.keys.service import SigningKeys

WHO = Principal("id-1", "staff", "ada@example.com", "Ada", "owner", frozenset({"orders", "campaigns"}))


def pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def verifier(keys: SigningKeys) -> TokenVerifier:
    async def fetch() -> str:
        return keys.jwks()

    return TokenVerifier(fetch)


def generated(**options: object) -> SigningKeys:
    return SigningKeys(OKPKey.generate_key("Ed25519", {"use": "sig", "alg": "Ed25519"}), **options)  # type: ignore[arg-type]


async def test_a_token_says_who_somebody_is() -> None:
    """What was signed is what a verifier reads, permissions included."""
    keys = generated()
    assert await verifier(keys).verify(keys.access_token(WHO)) == WHO


async def test_a_token_ends_with_its_lifetime() -> None:
    """A token from sixteen minutes ago is refused."""
    keys = generated(now=lambda: time.time() - 16 * 60)
    with pytest.raises(Unauthenticated):
        await verifier(keys).verify(keys.access_token(WHO))


async def test_a_token_of_another_key_is_refused() -> None:
    """Somebody else's signature under our issuer's name opens nothing."""
    with pytest.raises(Unauthenticated):
        await verifier(generated()).verify(generated().access_token(WHO))


def test_the_published_keys_hold_no_private_part(tmp_path: Path) -> None:
    """The key set has exactly the public members, under the thumbprint of the key."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    (key,) = SigningKeys.load(path).key_set()["keys"]
    assert set(key) == {"kty", "crv", "x", "use", "alg", "kid"}
    assert key["kid"] == OKPKey.import_key({name: str(key[name]) for name in ("kty", "crv", "x")}).thumbprint()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no file"),
        pytest.param(b"", id="empty"),
        pytest.param(b"not a key", id="not PEM"),
        pytest.param(pem(rsa.generate_private_key(65537, 2048)), id="RSA"),
        pytest.param(pem(ed448.Ed448PrivateKey.generate()), id="another curve"),
        pytest.param(
            ed25519.Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            id="public half",
        ),
    ],
)
def test_only_a_private_ed25519_key_is_accepted(tmp_path: Path, content: bytes | None) -> None:
    """A service that could not sign does not start, and says why."""
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="signing key"):
        SigningKeys.load(path)
