"""What is remembered between asking a provider and its answer, and what the answer says."""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["LIFETIME", "Attempt", "Identity", "own_path"]

LIFETIME: Final = 600
"""Seconds that somebody has to sign in at the provider."""

# A path of ours: "//host" and "/\host" are another site's to a browser.
_PATH: Final = re.compile(r"/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500}")


def own_path(value: str) -> bool:
    """Whether `value` leads to a page of ours, whatever a browser makes of it."""
    return _PATH.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in of one browser: only whoever holds the cookie can read it, and only we could write it."""

    provider: str
    state: str
    nonce: str
    verifier: str
    return_to: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says it is."""

    provider: str
    subject: str
    email: str | None
    email_verified: bool
    name: str
