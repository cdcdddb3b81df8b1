"""The library's own tables, and dbmate to apply them together with a service's."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["PARTS", "migrate"]

_HERE = Path(__file__).parent
PARTS = ("jobs", "idempotency", "inbox", "audit", "machine_tokens")
"""The folders of migrations; a service names those whose tables it uses."""


def migrate(url: str, own: Path, parts: tuple[str, ...]) -> int:
    """Applies the library's tables named in `parts` and the migrations in `own`; dbmate's exit status.

    `url` is the owner role's: the role a service runs as may not change tables. Waits up to 30 s for the server.
    """
    directories = [str(_HERE / part) for part in parts] + [str(own)]
    command = [str(Path(sys.executable).parent / "dbmate"), "--no-dump-schema", "--wait", "--wait-timeout", "30s"]
    for directory in directories:
        command += ["--migrations-dir", directory]
    separator = "&" if "?" in url else "?"
    target = url if "sslmode=" in url else f"{url}{separator}sslmode=disable"
    environment = {**os.environ, "DATABASE_URL": target}
    return subprocess.run(  # noqa: S603 - our own arguments
        [*command, "migrate"], env=environment, check=False
    ).returncode
