"""What accounts refuses to start with."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from reliability.settings import load
from services.accounts.settings import AccountsSettings


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    key = tmp_path / "signing.key"
    key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return {
        "http_port": 1,
        "grpc_port": 2,
        "database_url": "postgresql://127.0.0.1/x",
        "redis_url": "redis://127.0.0.1/0",
        "tls_ca_file": "ca",
        "tls_cert_file": "cert",
        "tls_key_file": "key",
        "admin_grpc": "127.0.0.1:4",
        "notifications_grpc": "127.0.0.1:3",
        "orders_grpc": "127.0.0.1:5",
        "payments_grpc": "127.0.0.1:6",
        "accounts_secret": "a secret of thirty-two characters",
        "signing_key_file": key,
    }


def test_staff_credentials_are_optional(values: dict[str, object]) -> None:
    """A shop whose owner exists needs no password in its environment."""
    assert load(AccountsSettings, **values).staff_email is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"signing_key_file": "/nonexistent/key"}, "SIGNING_KEY_FILE"),
        ({"staff_email": "owner@example.com"}, "STAFF_PASSWORD"),
        ({"staff_email": "owner@example.com", "staff_password": "short-secret"[:6]}, "STAFF_PASSWORD"),
        ({"staff_email": "no address", "staff_password": "long enough secret"}, "STAFF_EMAIL"),
    ],
)
def test_bad_values_stop_the_start_and_are_named(
    values: dict[str, object], capsys: pytest.CaptureFixture[str], wrong: dict[str, object], said: str
) -> None:
    """Each bad variable is named; no value is printed."""
    with pytest.raises(SystemExit) as stopped:
        load(AccountsSettings, **(values | wrong))
    assert stopped.value.code == 78
    printed = capsys.readouterr().err
    assert said in printed
    assert "short-" not in printed


def test_an_empty_variable_is_an_unset_one(values: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """`CRASH_POINTS=` in a file of variables is not the current folder."""
    monkeypatch.setenv("CRASH_POINTS", "")
    monkeypatch.setenv("STAFF_EMAIL", "")
    loaded = load(AccountsSettings, **values)
    assert (loaded.crash_points, loaded.staff_email) == (None, None)
