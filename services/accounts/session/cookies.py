"""The two cookies of a browser session."""

from typing import Final

from reliability.tokens import ACCESS_COOKIE
from services.accounts.session.domain import LIFETIME
from services.accounts.session.service import Session

__all__ = ["REFRESH_COOKIE", "SessionCookies"]

REFRESH_COOKIE: Final = "holdfast_refresh"
# It is sent to where it is used, and nowhere else.
_REFRESH_PATH: Final = "/api/auth"


class SessionCookies:
    """Scripts cannot read them and other sites cannot send them. Browsers return `Secure` ones over https only."""

    def __init__(self, *, secure: bool) -> None:
        self._attributes = f"HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"

    def of(self, session: Session) -> tuple[str, ...]:
        """Sets both."""
        return (
            self.one(ACCESS_COOKIE, session.access_token, "/", session.expires_in),
            self.one(REFRESH_COOKIE, session.refresh_token, _REFRESH_PATH, int(LIFETIME.total_seconds())),
        )

    def gone(self) -> tuple[str, ...]:
        """Takes both away."""
        return (self.one(ACCESS_COOKIE, "", "/", 0), self.one(REFRESH_COOKIE, "", _REFRESH_PATH, 0))

    def one(self, name: str, value: str, path: str, seconds: int) -> str:
        """A cookie like them; gone when it has no seconds left."""
        return f"{name}={value}; Path={path}; Max-Age={seconds}; {self._attributes}"
