"""Running PostgreSQL as somebody else when we are root, because it refuses to run as root.

Nothing is added to the machine for it: an account that every Unix has is used. Where that account cannot reach
the binaries or the data (a checkout under /root), the process keeps one capability, CAP_DAC_OVERRIDE, instead of
the directories above being opened to everybody.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import ConfigurationFailure

__all__ = ["Identity", "before_exec", "unprivileged"]

_ACCOUNTS = ("nobody", "postgres", "daemon")
_PR_SET_PDEATHSIG, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_OVERRIDE = 1
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class Identity:
    """The account a child runs as."""

    uid: int
    gid: int
    pass_any_directory: bool = False

    def own(self, path: Path) -> None:
        """Gives a file or an (empty) directory to the account."""
        os.chown(path, self.uid, self.gid)


def unprivileged(readable: Sequence[Path], writable: Path) -> Identity | None:
    """Who PostgreSQL runs as: None (ourselves) unless we are root."""
    if os.geteuid() != 0:
        return None
    account = _account()
    plain = Identity(account.pw_uid, account.pw_gid)
    plain.own(writable)
    if _reaches(plain, readable, writable):
        return plain
    capable = Identity(account.pw_uid, account.pw_gid, pass_any_directory=True)
    if sys.platform == "linux" and _reaches(capable, readable, writable):
        return capable
    raise ConfigurationFailure(
        f"PostgreSQL does not run as root, and the account {account.pw_name} cannot reach {writable}: "
        "run as a plain user, or move the project to a directory that others may pass through"
    )


def before_exec(identity: Identity | None, death_signal: int) -> Callable[[], None]:
    """What the child does between fork and exec: become `identity`, and ask to be told when we die."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def run() -> None:
        if identity is not None:
            _become(identity, libc)
        if libc is not None:
            # After the change of account, which clears it. A supervisor killed with SIGKILL leaves no orphans.
            libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)

    return run


def _become(identity: Identity, libc: ctypes.CDLL | None) -> None:
    capable = identity.pass_any_directory and libc is not None
    if capable and libc is not None:
        # Without it access(2), which initdb asks about its own binary, would look past the capability.
        libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(identity.gid)
    os.setuid(identity.uid)
    if capable and libc is not None:
        _keep_only_dac_override(libc)


def _keep_only_dac_override(libc: ctypes.CDLL) -> None:
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    bit = 1 << _CAP_DAC_OVERRIDE
    # Effective, permitted and inheritable for capabilities 0 to 31, then for 32 to 63.
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, sets) == 0:
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _account() -> pwd.struct_passwd:
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ConfigurationFailure(
        f"PostgreSQL does not run as root and none of the accounts {', '.join(_ACCOUNTS)} exists: run as a plain user"
    )


def _reaches(identity: Identity, readable: Sequence[Path], writable: Path) -> bool:
    script = 'test -w "$1" || exit 1; shift; for path; do test -r "$path" || exit 1; done'
    try:
        answer = subprocess.run(
            ["/bin/sh", "-c", script, "sh", str(writable), *map(str, readable)],
            preexec_fn=before_exec(identity, signal.SIGKILL),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0
