"""A process with a bad mail address or a password in the clear does not start."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.notifications.mail.connections import SmtpServer
from services.notifications.settings import NotificationsSettings

VALID: dict[str, Any] = {
    "http_port": 1,
    "grpc_port": 1,
    "database_url": "postgresql://notifications@127.0.0.1/holdfast",
    "redis_url": "redis://127.0.0.1",
    "tls_ca_file": "ca.pem",
    "tls_cert_file": "cert.pem",
    "tls_key_file": "key.pem",
    "admin_grpc": "127.0.0.1:8105",
    "mail_url": "smtp://127.0.0.1:8084",
    "link_secret": "a secret of thirty-two characters",
    "accounts_grpc": "127.0.0.1:8104",
    "mail_from": "Holdfast <shop@holdfast.example>",
}


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://127.0.0.1:8084", SmtpServer("127.0.0.1", 8084)),
        ("smtp://relay.example", SmtpServer("relay.example", 25)),
        ("smtp://u:p@localhost", SmtpServer("localhost", 25, username="u", password="p")),
        (
            "smtp+starttls://u:p@relay.example",
            SmtpServer("relay.example", 587, starttls=True, username="u", password="p"),
        ),
        ("smtps://relay.example", SmtpServer("relay.example", 465, implicit_tls=True)),
        ("smtps://u:p%40ss@[::1]", SmtpServer("::1", 465, implicit_tls=True, username="u", password="p@ss")),
    ],
)
def test_mail_servers(url: str, server: SmtpServer) -> None:
    """The address says where, how encrypted, and who we are there."""
    assert SmtpServer.of(NotificationsSettings(**(VALID | {"mail_url": url})).mail_url) == server


@pytest.mark.parametrize(
    "bad",
    [
        {"mail_url": "http://relay.example"},
        {"mail_url": "smtp://user:password@relay.example"},
        {"mail_url": "relay.example:25"},
        {"mail_url": "resend+https://api.resend.com"},
        {"mail_url": "resend+http://re_key@relay.example"},
        {"link_secret": "short"},
        {"mail_staff": "nobody"},
        {"mail_from": "nobody"},
        {"mail_from": "Shop <shop@holdfast.example>\r\nBcc: eve@example.com"},
        {"mail_connections": 0},
        {"campaign_lanes": 0},
    ],
)
def test_bad_settings(bad: dict[str, Any]) -> None:
    """Each is refused when the process starts."""
    with pytest.raises(ValidationError):
        NotificationsSettings(**(VALID | bad))
