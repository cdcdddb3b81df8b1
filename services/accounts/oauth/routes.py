"""OpenID Connect over HTTP: both routes are visited by browsers, which are sent on."""

from typing import Final

from reliability.asgi import Answer, Call, Endpoint
from reliability.context import client_address
from reliability.errors import RateLimited
from services.accounts.oauth.domain import LIFETIME
from services.accounts.oauth.errors import EmailNotVerified, NoSuchProvider, SignInFailed, SignInRefused
from services.accounts.oauth.schemas import CallbackQuery, StartQuery
from services.accounts.oauth.service import OauthService
from services.accounts.session.cookies import SessionCookies
from services.accounts.session.errors import TotpRequired
from services.accounts.session.routes import PRIVATE, device_of

__all__ = ["ATTEMPT_COOKIE", "OauthRoutes"]

ATTEMPT_COOKIE: Final = "holdfast_oauth"
_PATH: Final = "/api/auth/oauth"


class OauthRoutes:
    """Decode, call, encode."""

    def __init__(self, oauth: OauthService, cookies: SessionCookies) -> None:
        self._oauth = oauth
        self._cookies = cookies

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        return [
            Endpoint(
                "GET",
                f"{_PATH}/{{provider}}/start",
                self._start,
                query=StartQuery,
                status=302,
                problems=(NoSuchProvider, RateLimited),
            ),
            Endpoint(
                "GET",
                f"{_PATH}/{{provider}}/callback",
                self._callback,
                query=CallbackQuery,
                status=302,
                problems=(NoSuchProvider, SignInFailed, EmailNotVerified, SignInRefused, TotpRequired, RateLimited),
            ),
        ]

    async def _start(self, call: Call) -> Answer:
        url, sealed = await self._oauth.start(call.path("provider"), call.query.return_to, client_address.get())
        # Lax: the browser comes back from another site, by a plain link.
        cookie = self._cookies.one(ATTEMPT_COOKIE, sealed, _PATH, LIFETIME)
        return Answer(status=302, headers={**PRIVATE, "Location": url}, cookies=(cookie,))

    async def _callback(self, call: Call) -> Answer:
        cookie = call.request.cookies.get(ATTEMPT_COOKIE)
        session, path = await self._oauth.finish(call.path("provider"), call.query, cookie, device_of(call.request))
        cookies = (*self._cookies.of(session), self._cookies.one(ATTEMPT_COOKIE, "", _PATH, 0))
        return Answer(status=302, headers={**PRIVATE, "Location": path}, cookies=cookies)
