"""argon2id, and judging passwords, off the event loop: two at a time.

A verification takes some 45 ms of CPU and 46 MiB: without a bound, a burst of logins would take the machine.
"""

import asyncio
import contextlib
import os
import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from reliability import deadline

__all__ = ["Passwords"]

_THREADS: Final = 2
_NICE: Final = 10
# OWASP Password Storage Cheat Sheet: m=47104 (46 MiB), t=1, p=1.
_HASHER: Final = PasswordHasher(memory_cost=47104, time_cost=1, parallelism=1)
_SHORTEST: Final = 8
# What zxcvbn looks at: its time grows with the square of the length, and whoever types more is strong by then.
_JUDGED: Final = 72
# "Safely unguessable: moderate protection from an offline slow-hash scenario".
_STRONG: Final = 3

T = TypeVar("T")


class Passwords:
    """Hashes and verifies passwords."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2", initializer=_step_back)
        self._dummy = _HASHER.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        """The hash to store."""
        return await self._run(lambda: _HASHER.hash(_normalised(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is the one; takes as long when nothing is stored.

        Raises `DeadlineExceeded` when the queue is longer than the request can wait; nothing is computed then.
        """
        return await self._run(lambda: _matches(stored or self._dummy, password)) and stored is not None

    async def weakness(self, password: str, about: Iterable[str] = ()) -> str | None:
        """Why a password is too easy to guess, knowing what it is `about`; None when it is not."""
        if len(password) < _SHORTEST:
            return f"must have {_SHORTEST} characters or more"
        known = [part for text in about for part in (text, *text.replace("@", " ").split())]
        return await self._run(lambda: _weakness(password[:_JUDGED], known))

    async def _run(self, work: Callable[[], T]) -> T:
        async with deadline.limit(deadline.EXTERNAL_CAP, "password"):
            # Cancelled while it waits for a thread, it never runs.
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _step_back() -> None:
    """Where threads have a priority of their own (Linux), the event loop's goes first when the cores are all taken."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _matches(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, _normalised(password))
    except (VerificationError, InvalidHashError):
        return False


def _weakness(password: str, known: list[str]) -> str | None:
    # Here, off the event loop and when somebody chooses a password: its lists of words are 12 MiB.
    from zxcvbn import zxcvbn

    judged = zxcvbn(_normalised(password)[:_JUDGED], user_inputs=[*known, "holdfast"])
    if judged["score"] >= _STRONG:
        return None
    feedback = judged["feedback"]
    said = [feedback["warning"], *feedback["suggestions"]]
    return " ".join(["is too easy to guess.", *(text for text in said if text)])


def _normalised(password: str) -> str:
    """The same characters typed on another keyboard are the same password (RFC 8265, section 4.2)."""
    return unicodedata.normalize("NFC", password)
