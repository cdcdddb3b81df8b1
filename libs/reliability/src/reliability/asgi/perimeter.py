"""What the edge knows of the world outside: our own address, the sites we trust, the machines we let in."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from reliability.context import Principal
from reliability.errors import PermissionDenied, Unauthenticated
from reliability.machine_tokens import MachineVerifier

__all__ = ["Perimeter", "bearer"]


def bearer(request: Request) -> str:
    """The token in `Authorization: Bearer`; empty when there is none (RFC 6750, section 2.1)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True)
class Perimeter:
    """One for all routes of a service."""

    public_url: str = "http://127.0.0.1:8080"
    cors_origins: tuple[str, ...] = ()
    machines: MachineVerifier | None = None

    @property
    def https(self) -> bool:
        """Whether customers reach us over https."""
        return self.public_url.startswith("https://")

    def refuse_foreign_site(self, request: Request) -> None:
        """Refuses what another site made a browser send with our cookies. Raises `PermissionDenied`.

        Browsers put `Origin` on every unsafe request (https://fetch.spec.whatwg.org/#origin-header); a client that
        sends neither `Origin` nor `Sec-Fetch-Site` is no browser. What comes without a cookie speaks for nobody.
        """
        if "cookie" not in request.headers:
            return
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        ours = urlsplit(self.public_url)
        foreign = (
            site not in {None, "same-origin", "none"}
            if origin is None
            else origin
            not in {
                f"{ours.scheme}://{ours.netloc}",
                *self.cors_origins,
            }
        )
        if foreign:
            message = "This request came from another site."
            raise PermissionDenied(message)

    async def admit_machine(self, request: Request, scope: str) -> Principal:
        """The machine whose token is good for `scope`.

        Raises `Unauthenticated` without one, and what `MachineVerifier.admit` raises.
        """
        token = bearer(request)
        if not token or self.machines is None:
            raise Unauthenticated(headers={"WWW-Authenticate": "Bearer"})
        return await self.machines.admit(token, scope)
