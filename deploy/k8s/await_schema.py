"""python -m deploy.k8s.await_schema catalog jobs: waits until every migration of a service has been applied.

The first argument is the service, the others the library's tables it uses. Reads DATABASE_URL, the address of the
role the service runs as: it may look at the table of migrations, not change it.
"""

import subprocess
import sys
import time
from pathlib import Path

from reliability import migrations

__all__ = ["folders", "is_current", "main"]

_SERVICES = Path(__file__).resolve().parents[2] / "services"
_SECONDS = 600.0
_POLL_SECONDS = 1.0


def folders(service: str, parts: list[str]) -> list[Path]:
    """Where the migrations are. Raises `FileNotFoundError` for a folder that is not there."""
    library = Path(migrations.__file__).parent
    found = [*(library / part for part in parts), _SERVICES / service.replace("-", "_") / "migrations"]
    for folder in found:
        if not folder.is_dir():
            raise FileNotFoundError(folder)
    return found


def is_current(directories: list[Path]) -> bool:
    """Whether the database at DATABASE_URL has all of them; False as well when it cannot be reached."""
    command = [str(Path(sys.executable).parent / "dbmate")]
    for directory in directories:
        command += ["--migrations-dir", str(directory)]
    asked = subprocess.run(  # noqa: S603 - our own arguments
        [*command, "status", "--quiet"], check=False, capture_output=True, timeout=30
    )
    return asked.returncode == 0


def main(arguments: list[str]) -> int:
    """0 when the schema is there; 1 after ten minutes, whereupon the pod starts it again."""
    directories = folders(arguments[0], arguments[1:])
    end = time.monotonic() + _SECONDS
    while not is_current(directories):
        if time.monotonic() > end:
            sys.stderr.write(f"the migrations of {arguments[0]} are still not applied: look at its migration Job\n")
            return 1
        time.sleep(_POLL_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
