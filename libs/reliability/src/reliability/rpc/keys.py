"""The issuer's public keys over gRPC, for `tokens.TokenVerifier`."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from reliability.rpc.client import invoke

__all__ = ["key_set"]

# A request waits for this at its first token only; it must leave time for the request itself.
_SECONDS: Final = 2.0


def key_set(method: Callable[..., Any], request: Any, *, step: str) -> Callable[[], Awaitable[str]]:
    """What fetches a JSON Web Key Set (RFC 7517) from an RPC whose answer has it as text in `jwks_json`.

    The call raises what `invoke` raises.
    """

    async def fetch() -> str:
        answer = await invoke(method, request, step=step, cap=_SECONDS)
        return str(answer.jwks_json)

    return fetch
