"""The list of incidents behind an RPC."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from reliability.rpc.client import invoke

__all__ = ["incident_list"]


def incident_list(
    method: Callable[..., Any], request: Callable[..., Any], *, step: str
) -> Callable[[Mapping[str, Any]], Awaitable[None]]:
    """What raises an incident by an RPC whose `request` has an incident's fields, with `detail` as text.

    The fields are `key`, `kind`, `summary`, `correlation_id` and `detail_json`. It is called from a job, which tries
    again by itself, so the call is made once. It raises what `invoke` raises.
    """

    async def raise_incident(incident: Mapping[str, Any]) -> None:
        fields = {name: incident[name] for name in ("key", "kind", "summary", "correlation_id")}
        detail = orjson.dumps(incident["detail"], option=orjson.OPT_SORT_KEYS).decode()
        await invoke(method, request(**fields, detail_json=detail), step=step, attempts=1)

    return raise_incident
