"""The sandbox's environment, read once at start."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(Exception):
    """Names every variable that is missing or wrong, so that one start shows all of them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen, whom to trust, where to send events and where to keep the books."""

    host: str
    port: int
    api_key: str
    webhook_url: str | None
    webhook_secrets: tuple[str, ...]
    state_file: Path
    webhook_events: tuple[str, ...] = ("*",)
    log_level: str = "info"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings; raise `SettingsError` naming each bad variable."""
        problems = _problems(environ)
        if problems:
            raise SettingsError("sandbox.stripe cannot start:\n" + "\n".join(f"  {line}" for line in problems))
        return cls(
            host=environ.get("HOST", "127.0.0.1"),
            port=int(environ.get("HTTP_PORT", "8082")),
            api_key=environ["STRIPE_API_KEY"],
            webhook_url=environ.get("STRIPE_WEBHOOK_URL") or None,
            webhook_secrets=_several(environ, "STRIPE_WEBHOOK_SECRET"),
            webhook_events=_several(environ, "STRIPE_WEBHOOK_EVENTS") or ("*",),
            state_file=Path(environ["STATE_FILE"]),
            log_level=environ.get("LOG_LEVEL", "info").lower(),
        )


def _several(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    """What is separated by commas."""
    return tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())


def _problems(environ: Mapping[str, str]) -> list[str]:
    problems = [
        f"{name} is not set: {why}"
        for name, why in (
            ("STRIPE_API_KEY", "the one secret key that is accepted, such as sk_test_..."),
            ("STATE_FILE", "the SQLite file the ledger is kept in"),
        )
        if not environ.get(name)
    ]
    port = environ.get("HTTP_PORT", "8082")
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        problems.append(f"HTTP_PORT is {port!r}: give a number from 0 to 65535")
    if environ.get("STRIPE_WEBHOOK_URL") and not _several(environ, "STRIPE_WEBHOOK_SECRET"):
        problems.append("STRIPE_WEBHOOK_SECRET is not set: events to STRIPE_WEBHOOK_URL are signed with it")
    if not environ.get("STRIPE_WEBHOOK_URL", "http://").startswith(("http://", "https://")):
        problems.append("STRIPE_WEBHOOK_URL must begin with http:// or https://")
    if environ.get("LOG_LEVEL", "info").lower() not in {"critical", "error", "warning", "info", "debug"}:
        problems.append("LOG_LEVEL must be one of critical, error, warning, info, debug")
    if environ.get("ENVIRONMENT", "local") == "production":
        problems.append("ENVIRONMENT is production: the sandbox charges nobody and must not stand in there")
    return problems
