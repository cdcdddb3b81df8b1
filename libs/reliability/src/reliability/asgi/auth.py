"""Who is asking over HTTP: a bearer token, or the session cookie a browser sends by itself."""

from urllib.parse import urlsplit

from starlette.requests import Request

from reliability.asgi.endpoint import Authenticate
from reliability.asgi.perimeter import bearer
from reliability.context import Principal
from reliability.errors import PermissionDenied
from reliability.tokens import ACCESS_COOKIE, TokenVerifier

__all__ = ["authenticator", "refuse_foreign_origin"]

_SAFE = {"GET", "HEAD", "OPTIONS"}


def refuse_foreign_origin(request: Request, public_url: str) -> None:
    """Refuses an unsafe request that another site made a browser send with our cookies.

    Browsers put `Origin` on every such request (https://fetch.spec.whatwg.org/#origin-header); a client
    that sends neither `Origin` nor `Sec-Fetch-Site` is no browser. Raises `PermissionDenied`.
    """
    if request.method in _SAFE:
        return
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    ours = urlsplit(public_url)
    foreign = origin is not None and origin != f"{ours.scheme}://{ours.netloc}"
    if foreign or (origin is None and site not in {None, "same-origin", "none"}):
        message = "This request came from another site."
        raise PermissionDenied(message)


def authenticator(verifier: TokenVerifier, public_url: str) -> Authenticate:
    """Reads the access token from `Authorization: Bearer` or from the session cookie."""

    async def authenticate(request: Request) -> Principal | None:
        if token := bearer(request):
            return await verifier.verify(token)
        if cookie := request.cookies.get(ACCESS_COOKIE):
            refuse_foreign_origin(request, public_url)
            return await verifier.verify(cookie)
        return None

    return authenticate
