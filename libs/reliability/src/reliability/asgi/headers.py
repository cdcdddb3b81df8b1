"""What every answer tells a browser to be careful with (https://owasp.org/www-project-secure-headers/).

The gateway says the same on what it answers itself; a test compares the two.
"""

import functools
from collections.abc import Iterable
from typing import Final

__all__ = ["PAGE_POLICY", "SECURITY_HEADERS", "secured"]

Headers = list[tuple[bytes, bytes]]

# An answer of the API is data: no browser has a reason to run, frame or guess anything in it.
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""For our own pages: what they load lies beside them."""

SECURITY_HEADERS: Final[tuple[tuple[str, str], ...]] = (
    ("content-security-policy", _NOTHING),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=()"),
)
"""What every answer carries that brings no such header itself (OWASP, HTTP Security Response Headers)."""
_ENCODED: Final = tuple((name.encode(), value.encode()) for name, value in SECURITY_HEADERS)
_TRANSPORT: Final = (b"strict-transport-security", b"max-age=31536000")


def secured(headers: Iterable[tuple[bytes, bytes]], *, https: bool) -> Headers:
    """`headers` and, of the above, those they do not have."""
    given = list(headers)
    given += _missing(tuple([name for name, _ in given]), https=https)
    return given


@functools.lru_cache(maxsize=256)  # nearly all answers bring the same few
def _missing(names: tuple[bytes, ...], *, https: bool) -> Headers:
    there = {name.lower() for name in names}
    return [pair for pair in (*_ENCODED, *([_TRANSPORT] if https else [])) if pair[0] not in there]
