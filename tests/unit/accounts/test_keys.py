"""The signing key: what it vouches for, and what it refuses to start with."""

import base64
import hmac
import time
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from joserfc.jwk import OKPKey

from reliability.context import Principal
from reliability.errors import Unauthenticated
from reliability.testing import FakeClock
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


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hmac_of(keys: SigningKeys, token: str) -> str:
    """The token signed with what is public, as if it were a shared secret."""
    header = base64url(orjson.dumps({"alg": "HS256", "kid": keys.key_set()["keys"][0]["kid"]}))
    said = f"{header}.{token.split('.')[1]}"
    return f"{said}.{base64url(hmac.digest(keys.jwks().encode(), said.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    "header",
    [
        b"[]", b"null", b"1", b"\xff\xfe", b"{", b"[" * 5000, b'{"alg":1e999}', b'{"alg":"none"}', b'{"alg":null}',
        b'{"alg":["Ed25519"]}', b'{"alg":"HS256"}', b'{"alg":"EdDSA"}', b'{"alg":"Ed25519"}',
        b'{"alg":"Ed25519","kid":["a"]}', b'{"alg":"Ed25519","kid":{}}', b'{"alg":"Ed25519","kid":1}',
        b'{"alg":"Ed25519","crit":1}', b'{"alg":"Ed25519","crit":[[]]}',
        b'{"alg":"Ed25519","crit":["b64"],"b64":false}',
        b'{"alg":"Ed25519","crit":{"a":1}}', b'{"alg":"Ed25519","jwk":{}}', b'{"alg":"Ed25519","jku":"http://[::1"}',
        b'{"alg":"Ed25519","x5c":1}', b'{"alg":"Ed25519","zip":"DEF"}', b'{"alg":"dir","enc":"A128GCM"}',
    ],
    ids=str,
)  # fmt: skip
async def test_whatever_a_header_holds_the_token_is_refused(header: bytes) -> None:
    """Not an error of ours: whoever sends a header chooses what is in it."""
    keys = generated()
    _, claims, signature = keys.access_token(WHO).split(".")
    for token in (f"{base64url(header)}.{claims}.{signature}", f"{base64url(header)}.{claims}.", base64url(header)):
        with pytest.raises(Unauthenticated):
            await verifier(keys).verify(token)


async def test_what_is_public_signs_nothing() -> None:
    """The published keys are no shared secret (RFC 8725, section 2.1)."""
    keys = generated()
    with pytest.raises(Unauthenticated):
        await verifier(keys).verify(hmac_of(keys, keys.access_token(WHO)))


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


class Rotation:
    """A key file, the keys read from it, and a verifier elsewhere that fetched them once."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.path = folder / "signing.key"
        self.write(self.new())
        self.keys = SigningKeys.load(self.path, lifetime=900, now=self.clock.time)
        self.verifier = self.elsewhere()

    def elsewhere(self) -> TokenVerifier:
        """Somebody who verifies, with a copy of their own."""

        async def fetch() -> str:
            return self.keys.jwks()

        return TokenVerifier(fetch, self.clock.time)

    @staticmethod
    def new() -> bytes:
        return pem(ed25519.Ed25519PrivateKey.generate())

    def write(self, *keys: bytes) -> None:
        """Replaces the file at once, as secrets are."""
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(b"".join(keys))
        fresh.replace(self.path)

    def published(self) -> int:
        return len(self.keys.key_set()["keys"])


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    """One key, as on the first day."""
    return Rotation(tmp_path)


async def test_a_key_is_changed_under_a_running_service_and_nobody_is_signed_out(rotation: Rotation) -> None:
    """Second in the file it is known, first it signs, and gone it is known until its last token has ended."""
    old, new = rotation.path.read_bytes(), rotation.new()
    before = rotation.keys.access_token(WHO)
    assert await rotation.verifier.verify(before) == WHO
    rotation.write(old, new)
    rotation.clock.advance(20)
    assert rotation.published() == 2
    assert kid(rotation.keys.access_token(WHO)) == kid(before)
    rotation.write(new, old)
    rotation.clock.advance(20)
    after = rotation.keys.access_token(WHO)
    assert kid(after) != kid(before)
    for token in (before, after):
        assert await rotation.verifier.verify(token) == WHO
    rotation.write(new)
    rotation.clock.advance(20)
    assert await rotation.elsewhere().verify(before) == WHO, "who starts now verifies what was signed before"
    rotation.clock.advance(960)
    assert rotation.published() == 1
    with pytest.raises(Unauthenticated):
        await rotation.elsewhere().verify(before)


async def test_a_key_file_that_is_no_good_changes_nothing(
    rotation: Rotation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a file, or none: the service goes on signing, says so once, and takes the next good one."""
    before = kid(rotation.keys.access_token(WHO))
    for content in (b"", b"-----BEGIN PRIVATE KEY-----\nhalf", rotation.new()[:-40]):
        rotation.write(content)
        for _ in range(3):
            rotation.clock.advance(2)
            assert kid(rotation.keys.access_token(WHO)) == before
    rotation.path.unlink()
    rotation.clock.advance(2)
    assert kid(rotation.keys.access_token(WHO)) == before
    assert capsys.readouterr().out.count("signing_keys_unusable") == 4
    rotation.write(rotation.new())
    rotation.clock.advance(2)
    assert kid(rotation.keys.access_token(WHO)) != before


def kid(token: str) -> str:
    """The key that signed."""
    head = token.partition(".")[0]
    return str(orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"])
