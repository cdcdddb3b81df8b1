"""The public keys over HTTP."""

from reliability.asgi import Answer, Call, Endpoint
from services.accounts.keys.service import SigningKeys

__all__ = ["endpoints"]

# Shorter than the life of a token: a new key is known everywhere before the old one's last token ends.
_CACHE = {"Cache-Control": "public, max-age=300"}


def endpoints(keys: SigningKeys) -> list[Endpoint]:
    """The routes of this capability."""

    async def jwks(_call: Call) -> Answer:
        return Answer(keys.key_set(), headers=_CACHE)

    return [Endpoint("GET", "/.well-known/jwks.json", jwks)]
