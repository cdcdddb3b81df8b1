"""Calls the RPC behind a route, once where once is asked for."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from reliability import idempotency, rpc
from reliability.cancellation import uninterrupted
from reliability.deadline import extra_time
from reliability.dedup import deduplicate
from reliability.errors import Problem
from reliability.logging import get_logger
from reliability.postgres import Database
from reliability.redis import Cache
from services.admin.relay.domain import STAFF_ID, RpcRoute
from services.admin.relay.messages import to_json, to_message

__all__ = ["Relay"]

_GIVE_BACK_SECONDS: Final = 2.0

_log = get_logger(__name__)


class Relay:
    """Knows the channel of every service whose RPCs have routes."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], database: Database, cache: Cache) -> None:
        self._channels = channels
        self._database = database
        self._cache = cache

    async def call(self, route: RpcRoute, values: Mapping[str, Any], staff_id: str) -> dict[str, Any]:
        """The RPC's answer as JSON. Raises the owner's problem as it came, and what the guards raise."""
        async with self._claimed(staff_id) as claim:
            answer = await self._guarded(route, values, staff_id)
            body = to_json(getattr(answer, route.unwrap) if route.unwrap else answer, route.names)
        await self._store(claim, route.status, body)
        return body

    async def _guarded(self, route: RpcRoute, values: Mapping[str, Any], staff_id: str) -> Message:
        if not route.once:
            return await self._invoke(route, values, staff_id)
        # The claim's effect() is not used. An owner that refuses has done nothing: the next click may try at once.
        # When it did not answer (away, out of time), we do not know; the key is given back all the same, because
        # the ledger of the owner decides what the next click finds, and sixty seconds of 429 would add nothing.
        async with deduplicate(self._cache, route.step, values, ttl=route.once):
            return await self._invoke(route, values, staff_id)

    async def _invoke(self, route: RpcRoute, values: Mapping[str, Any], staff_id: str) -> Message:
        method, service = route.rpc, route.rpc.containing_service
        message = to_message(route.request, values)
        if STAFF_ID in route.request.fields_by_name:
            setattr(message, STAFF_ID, staff_id)
        call: Any = self._channels[service.full_name].unary_unary(
            f"/{service.full_name}/{method.name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        # After a lost reply nobody knows whether a write was done: only the caller may decide to ask again. When it
        # does, the owner of the effect knows the key, whatever became of our own note of it.
        attempts = 3 if route.method == "GET" else 1
        key = idempotency.current.get()
        answer: Message = await rpc.invoke(
            call, message, step=route.step, attempts=attempts, key=key.value if key else None
        )
        return answer

    @asynccontextmanager
    async def _claimed(self, staff_id: str) -> AsyncIterator[idempotency.Claim]:
        """Holds the request's Idempotency-Key, if it has one, and gives it back when the block fails."""
        if idempotency.current.get() is None:
            yield idempotency.Claim()
            return
        async with self._database.transaction("claim key") as connection:
            claim = await idempotency.claim(connection, staff_id)
        try:
            yield claim
        except BaseException as error:
            await uninterrupted(self._give_back(claim, nothing_happened=_is_refusal(error)))
            raise

    async def _give_back(self, claim: idempotency.Claim, *, nothing_happened: bool) -> None:
        """After a refusal the key is as good as new; after anything else it stays bound to what was asked."""
        try:
            with extra_time(_GIVE_BACK_SECONDS):
                async with self._database.transaction("give key back") as connection:
                    await (claim.forget if nothing_happened else claim.release)(connection)
        except Problem as problem:
            _log.warning("key_not_given_back", code=problem.code)  # its lease ends by itself

    async def _store(self, claim: idempotency.Claim, status: int, body: Mapping[str, Any]) -> None:
        """Keeps the answer for a retry. The effect has happened: failing to note it must not turn it into an error."""
        if not claim.key:
            return
        try:
            async with self._database.transaction("store answer") as connection:
                await claim.store(connection, status, body)
        except Problem as problem:
            _log.warning("answer_not_stored", code=problem.code)


def _is_refusal(error: BaseException) -> bool:
    """Whether the owner, or a guard before it, said no: then nothing was done."""
    return isinstance(error, Problem) and error.status < 500
