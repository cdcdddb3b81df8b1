"""Random secrets of a development system, made once per state directory."""

import json
import secrets
from dataclasses import asdict, dataclass, field

from deploy.local.errors import ConfigurationFailure
from deploy.local.ports import SERVICES
from deploy.local.state import StateDir, read_json, write_json

__all__ = ["Secrets", "load_secrets"]

STAFF_EMAIL = "owner@holdfast.example"


def _token() -> str:
    return secrets.token_hex(24)


def _stripe_key() -> str:
    return f"sk_test_{secrets.token_hex(24)}"


def _webhook_secret() -> str:
    return f"whsec_{secrets.token_hex(24)}"


def _per_service() -> dict[str, str]:
    return {service: _token() for service in SERVICES}


@dataclass(frozen=True, slots=True)
class Secrets:
    """Everything random. Hexadecimal, so that nothing needs quoting in a URL, a file or SQL."""

    postgres_password: str = field(default_factory=_token)
    owner_passwords: dict[str, str] = field(default_factory=_per_service)
    runtime_passwords: dict[str, str] = field(default_factory=_per_service)
    redis_password: str = field(default_factory=_token)
    cart_secret: str = field(default_factory=_token)
    accounts_secret: str = field(default_factory=_token)
    link_secret: str = field(default_factory=_token)
    stripe_api_key: str = field(default_factory=_stripe_key)
    stripe_webhook_secret: str = field(default_factory=_webhook_secret)
    staff_password: str = field(default_factory=_token)


def load_secrets(state: StateDir) -> Secrets:
    """The secrets of this state directory; what is missing is made and kept."""
    try:
        known = read_json(state.secrets)
        result = Secrets(**known)
    except (json.JSONDecodeError, TypeError) as error:
        raise ConfigurationFailure(
            f"{state.secrets} cannot be read ({error}): mend it, or start again without data: "
            "python -m deploy.local up --fresh"
        ) from error
    if asdict(result) != known:
        write_json(state.secrets, asdict(result))
    return result
