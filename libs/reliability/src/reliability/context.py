"""What a unit of work knows of itself: who asked, under which correlation id, with which credentials.

Everything lives in context variables, so it follows `await` and `asyncio.create_task` by itself.
Middlewares are pure ASGI because `BaseHTTPMiddleware` runs the handler in another context.
"""

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

from reliability.ids import new_id

__all__ = [
    "Principal",
    "Scope",
    "bind_correlation_id",
    "client_address",
    "correlation_id",
    "correlation_scope",
    "principal",
    "request_id",
    "sanitise_correlation_id",
]

T = TypeVar("T")

_VALID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of this one request; empty outside of one."""
client_address: ContextVar[str] = ContextVar("client_address", default="")
"""Who is asking by address, as the gateway saw it; empty outside of a request."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: a customer, a member of staff or, over gRPC, a service."""

    id: str
    kind: str
    email: str = ""
    name: str = ""
    role: str = ""
    permissions: frozenset[str] = field(default_factory=frozenset)
    session: str = ""
    """The id of the session the token belongs to, if it belongs to one."""


principal: ContextVar[Principal | None] = ContextVar("principal", default=None)
"""Who is asking, proven; None when nobody has signed in."""


def correlation_id() -> str:
    """The correlation id of the running business flow; empty outside of one."""
    return _correlation_id.get()


def sanitise_correlation_id(value: str | None) -> str:
    """`value` when it is 1 to 128 of `A-Za-z0-9._-`, else a new id."""
    return value if value and _VALID.fullmatch(value) else new_id()


def bind_correlation_id(value: str) -> None:
    """Makes `value` the correlation id of the rest of this context.

    For work that finds out late to which flow it belongs, a webhook's job for example.
    """
    _correlation_id.set(value)


class Scope(Generic[T]):
    """`variable` is `value` while the block runs. A class, for a generator costs three times as much."""

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> T:
        self._token = self._variable.set(self._value)
        return self._value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._variable.reset(self._token)


def correlation_scope(value: str | None) -> Scope[str]:
    """Runs the block under `value`, or under a new id when there is none."""
    return Scope(_correlation_id, sanitise_correlation_id(value))
