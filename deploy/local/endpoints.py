"""Where everything is, for tools and tests: endpoints.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deploy.local.errors import Unavailable
from deploy.local.state import StateDir, read_json, write_json

__all__ = ["Endpoints"]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What `endpoints.json` holds.

    The paths in `tls` are relative to the state directory. `stripe_sandbox` and `mailbox` are None when an outside
    party given by the environment takes their place.
    """

    gateway: str
    stripe_sandbox: str | None
    mailbox: str | None
    services: dict[str, dict[str, str]]
    postgres: str
    redis: str
    staff: dict[str, str]
    tls: dict[str, str]
    processes: dict[str, int]

    def write(self, state: StateDir) -> None:
        """Replaces the file."""
        write_json(state.endpoints, asdict(self))

    @classmethod
    def read(cls, state: StateDir) -> "Endpoints":
        """The endpoints of a system that is up."""
        fields: Mapping[str, Any] = read_json(state.endpoints)
        if not fields:
            raise Unavailable("the system is not up: make up")
        return cls(**fields)
