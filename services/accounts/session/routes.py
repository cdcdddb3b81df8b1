"""Signing in and out over HTTP."""

from starlette.requests import Request

from reliability.asgi import Access, Answer, Authenticate, Call, Endpoint, KeyRule, refuse_foreign_origin
from reliability.context import Principal, client_address, principal
from reliability.errors import RateLimited, Unauthenticated
from services.accounts.session.cookies import REFRESH_COOKIE, SessionCookies
from services.accounts.session.domain import Device
from services.accounts.session.errors import InvalidCredentials, SessionEnded, TotpRequired
from services.accounts.session.schemas import (
    LoginRequest,
    LoginResponse,
    SessionItem,
    SessionList,
    SessionResponse,
    User,
)
from services.accounts.session.service import Session, SessionService

__all__ = ["PRIVATE", "SessionRoutes", "device_of", "me"]

PRIVATE = {"Cache-Control": "no-store"}
_MAX_DEVICE = 200


def me() -> Principal:
    """Whoever is signed in, on a route that asks for it."""
    who = principal.get()
    if who is None:
        raise Unauthenticated
    return who


def device_of(request: Request) -> Device:
    """Where a request comes from; its name is what the browser says, which may be anything."""
    said = request.headers.get("user-agent", "")
    return Device(client_address.get(), "".join(c for c in said if c.isprintable())[:_MAX_DEVICE])


def _user(who: Principal) -> User:
    return User(id=who.id, email=who.email, name=who.name, role=who.role)


class SessionRoutes:
    """Decode, call, encode."""

    def __init__(
        self, sessions: SessionService, authenticate: Authenticate, cookies: SessionCookies, public_url: str
    ) -> None:
        self._sessions = sessions
        self._authenticate = authenticate
        self._cookies = cookies
        self._public_url = public_url

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        ignored, customer = KeyRule.IGNORED, Access.CUSTOMER
        return [
            Endpoint(
                "POST",
                "/api/auth/login",
                self._login,
                key=ignored,
                body=LoginRequest,
                answer=LoginResponse,
                problems=(InvalidCredentials, TotpRequired, RateLimited),
            ),
            Endpoint(
                "POST",
                "/api/auth/refresh",
                self._refresh,
                key=ignored,
                answer=LoginResponse,
                problems=(SessionEnded, RateLimited),
            ),
            Endpoint("POST", "/api/auth/logout", self._logout, access=customer, key=ignored, status=204),
            Endpoint("GET", "/api/auth/session", self._whoami, answer=SessionResponse),
            Endpoint("GET", "/api/auth/sessions", self._list, access=customer, answer=SessionList),
            Endpoint("DELETE", "/api/auth/sessions/{id}", self._end, access=customer, key=ignored, status=204),
        ]

    async def _login(self, call: Call) -> Answer:
        request: LoginRequest = call.body
        device = device_of(call.request)
        session = await self._sessions.login(
            request.email, request.password, device, code=request.totp, recovery=request.recovery_code
        )
        return self._answer(session)

    async def _refresh(self, call: Call) -> Answer:
        token = call.request.cookies.get(REFRESH_COOKIE)
        if not token:
            raise SessionEnded
        refuse_foreign_origin(call.request, self._public_url)
        return self._answer(await self._sessions.refresh(token, device_of(call.request)))

    async def _logout(self, _call: Call) -> Answer:
        await self._sessions.logout(me())
        return Answer(status=204, headers=PRIVATE, cookies=self._cookies.gone())

    async def _whoami(self, call: Call) -> Answer:
        try:
            who = await self._authenticate(call.request)
        except Unauthenticated:
            who = None  # an expired session is an anonymous one
        return Answer(SessionResponse(user=_user(who) if who else None), headers=PRIVATE)

    async def _list(self, _call: Call) -> Answer:
        who = me()
        items = [SessionItem.of(session, who.session) for session in await self._sessions.sessions(who)]
        return Answer(SessionList(items=items), headers=PRIVATE)

    async def _end(self, call: Call) -> Answer:
        await self._sessions.end(me(), call.path("id"))
        return Answer(status=204)

    def _answer(self, session: Session) -> Answer:
        body = LoginResponse(access_token=session.access_token, expires_in=session.expires_in, user=_user(session.who))
        return Answer(body, headers={**PRIVATE, **session.limits}, cookies=self._cookies.of(session))
