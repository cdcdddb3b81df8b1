"""Signing in over HTTP."""

from reliability.asgi import Answer, Authenticate, Call, Endpoint, KeyRule
from reliability.context import Principal, client_address
from reliability.errors import Unauthenticated
from reliability.tokens import ACCESS_COOKIE
from services.accounts.session.schemas import LoginRequest, LoginResponse, SessionResponse, User
from services.accounts.session.service import Session, SessionService

__all__ = ["endpoints"]

_PRIVATE = {"Cache-Control": "no-store"}


def endpoints(sessions: SessionService, authenticate: Authenticate, *, secure_cookies: bool) -> list[Endpoint]:
    """The routes of this capability. Browsers send `Secure` cookies back over https only."""

    async def login(call: Call) -> Answer:
        request: LoginRequest = call.body
        session = await sessions.login(request.email, request.password, client_address.get())
        body = LoginResponse(access_token=session.access_token, expires_in=session.expires_in, user=_user(session.who))
        return Answer(body, headers={**_PRIVATE, **session.limits}, cookies=(_cookie(session, secure_cookies),))

    async def whoami(call: Call) -> Answer:
        try:
            who = await authenticate(call.request)
        except Unauthenticated:
            who = None  # an expired session is an anonymous one
        return Answer(SessionResponse(user=_user(who) if who else None), headers=_PRIVATE)

    return [
        Endpoint("POST", "/api/auth/login", login, key=KeyRule.IGNORED, body=LoginRequest, answer=LoginResponse),
        Endpoint("GET", "/api/auth/session", whoami, answer=SessionResponse),
    ]


def _user(who: Principal) -> User:
    return User(id=who.id, email=who.email, name=who.name, role=who.role)


def _cookie(session: Session, secure: bool) -> str:
    attributes = f"Path=/; Max-Age={session.expires_in}; HttpOnly; SameSite=Lax"
    return f"{ACCESS_COOKIE}={session.access_token}; {attributes}{'; Secure' if secure else ''}"
