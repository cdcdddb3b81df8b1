"""Asks the advisory databases about every locked package: `make audit`.

Fails when one has a known hole. Where the databases cannot be reached it says that nothing was audited; with
AUDIT=required that is a failure too.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
LOCKS: Final = ("requirements.lock", "deploy/docker/requirements.lock")
_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of one lock file; `reason` says why nothing is."""

    audited: int = 0
    skipped: int = 0
    holes: tuple[str, ...] = ()
    reason: str = ""


def judge(report: dict[str, Any]) -> Result:
    """A report of pip-audit. A package that its source does not know was not audited, and is not therefore sound."""
    packages = report["dependencies"]
    known = [each for each in packages if "skip_reason" not in each]
    holes = tuple(
        f"{each['name']} {each['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none yet'}"
        for each in known
        for hole in each["vulns"]
    )
    return Result(len(known), len(packages) - len(known), holes)


def audit(lock: str) -> Result:
    """Runs pip-audit; the hashes in the lock spare it an installation."""
    program = str(Path(sys.executable).parent / "pip-audit")
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            [program, "-r", lock, *options], capture_output=True, text=True, check=False, timeout=_SECONDS, cwd=ROOT
        )
        return judge(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return Result(reason="the advisory database did not answer")


def main() -> int:
    """Says what was found; the exit status."""
    failed = False
    for lock in LOCKS:
        result = audit(lock)
        if not result.audited:
            why = result.reason or "its packages are unknown where advisories are asked for"
            print(f"NOT AUDITED: {lock}: {why}; run `make audit` where PyPI can be reached")
            failed |= os.environ.get("AUDIT") == "required"
            continue
        print(f"{lock}: {result.audited} packages audited, {result.skipped} unknown, {len(result.holes)} known holes")
        for hole in result.holes:
            print(f"  {hole}")
        failed |= bool(result.holes)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
