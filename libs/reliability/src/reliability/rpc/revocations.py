"""The issuer's list of revoked tokens over gRPC, for `revocation.Revocations`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from reliability.rpc.client import invoke

__all__ = ["revocation_list"]

# A request waits for this once every two seconds while Redis is away; it must leave time for the request itself.
_SECONDS: Final = 1.0


def revocation_list(
    method: Callable[..., Any], request: Any, *, step: str
) -> Callable[[], Awaitable[Mapping[str, float]]]:
    """What fetches the list from an RPC whose answer has it in `revocations`, each with `name` and `revoked_at`.

    The call raises what `invoke` raises.
    """

    async def fetch() -> Mapping[str, float]:
        answer = await invoke(method, request, step=step, cap=_SECONDS, attempts=1)
        return {each.name: each.revoked_at for each in answer.revocations}

    return fetch
