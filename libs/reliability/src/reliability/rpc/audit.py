"""The audit log behind an RPC, for `audit.deliver`."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from reliability.rpc.client import invoke

if TYPE_CHECKING:
    from reliability.audit import Entry

__all__ = ["audit_log"]


def audit_log(
    method: Callable[..., Any], request: Callable[..., Any], *, step: str
) -> "Callable[[Entry], Awaitable[None]]":
    """What appends an entry by an RPC whose `request` has an entry's fields, with `detail` as text in `detail_json`.

    The job tries again by itself, so the call is made once. It raises what `invoke` raises.
    """

    async def append(entry: "Entry") -> None:
        message = request(
            id=entry.id,
            happened_at=entry.happened_at,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            detail_json=orjson.dumps(entry.detail, option=orjson.OPT_SORT_KEYS).decode(),
            correlation_id=entry.correlation_id,
        )
        await invoke(method, message, step=step, attempts=1)

    return append
