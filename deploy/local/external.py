"""Services of others, named by the environment, that are used instead of our own."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["External", "base_environment"]

_STRIPE = ("STRIPE_API_BASE", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET")
_OURS = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "MAIL_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", *_STRIPE)
_LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Stripe:
    """An account at Stripe, or something that answers like it."""

    api_base: str
    api_key: str
    webhook_secret: str


@dataclass(frozen=True, slots=True)
class External:
    """Each is None when the system brings its own."""

    database_url: str | None = None
    redis_url: str | None = None
    stripe: Stripe | None = None
    mail_url: str | None = None
    otlp_endpoint: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "External":
        """What the environment names; an empty variable counts as absent."""
        stripe = [environment.get(name, "") for name in _STRIPE]
        return cls(
            environment.get("DATABASE_URL") or None,
            environment.get("REDIS_URL") or None,
            Stripe(*stripe) if all(stripe) else None,
            environment.get("MAIL_URL") or None,
            environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None,
        )


def notices(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What somebody might not expect of the environment they gave."""
    given = [name for name in _STRIPE if environment.get(name)]
    if given and len(given) < len(_STRIPE):
        return (f"{', '.join(given)} is ignored and the Stripe sandbox used: set {', '.join(_STRIPE)} to use another",)
    return ()


def base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What every child gets: ours, without what only some of them may know, and never a proxy for loopback."""
    base = {name: value for name, value in environment.items() if name not in _OURS}
    for name in ("NO_PROXY", "no_proxy"):
        base[name] = ",".join(filter(None, (base.get(name), *_LOOPBACK)))
    return base
