"""The same request twice: a first click, a second one, and a durable key."""

import itertools
from contextlib import suppress
from typing import Any

from bench.reliability.harness import Comparison, Contender, Floor, Role, repeated
from bench.reliability.powertools import powertools
from bench.reliability.stage import Stage
from reliability import idempotency
from reliability.dedup import deduplicate
from reliability.errors import DuplicateRequest
from reliability.fingerprint import fingerprint
from reliability.ids import new_id

__all__ = ["comparisons"]

BARE = "bare SET NX EX"
UNGUARDED = "an INSERT and an UPDATE"
ORDER = {"lines": [{"sku": "tea", "quantity": 2}], "note": "ring twice"}
ANSWER = {"ok": True}
_numbers = itertools.count()


def _order() -> dict[str, Any]:
    return {**ORDER, "id": f"{next(_numbers)}-{new_id()}"}


async def comparisons(stage: Stage) -> list[Comparison]:
    """First and second clicks in Valkey, and keys in PostgreSQL."""
    return [_first(stage), _second(stage), await _durable(stage)]


def _first(stage: Stage) -> Comparison:
    cache, client = stage.cache(), stage.client()

    async def ours() -> None:
        async with deduplicate(cache, "bench", _order()):
            pass

    async def bare() -> None:
        order = _order()
        await client.set(order["id"], "owner", nx=True, ex=60)

    return Comparison(
        "dedup: a first click",
        "powertools is synchronous and keeps the answer as well, in a second command; it is here for scale, with its "
        "Redis persistence over the synchronous redis-py.",
        [
            Contender("deduplicate", Role.OURS, repeated(ours)),
            powertools(stage, _order),
            Contender(BARE, Role.FLOOR, repeated(bare)),
        ],
        [Floor(BARE, 1.15)],
    )


def _second(stage: Stage) -> Comparison:
    cache, order = stage.cache(), _order()

    async def ours() -> None:
        with suppress(DuplicateRequest):
            async with deduplicate(cache, "bench", order):
                pass

    return Comparison(
        "dedup: a second click",
        "Ours refuses it with the seconds that are left (two round trips); powertools answers it again.",
        [Contender("deduplicate", Role.OURS, repeated(ours)), powertools(stage, lambda: order)],
    )


async def _durable(stage: Stage) -> Comparison:
    url = await stage.create("bench_idempotency", library=True)
    connection, bare = await stage.connect(url), await stage.connect(url)
    await bare.execute("CREATE TABLE floor (LIKE idempotency_keys INCLUDING ALL)")

    async def ours() -> None:
        order = _order()
        idempotency.current.set(idempotency.Key("POST /orders", order["id"], fingerprint("POST /orders", order)))
        async with connection.transaction():
            claim = await idempotency.claim(connection, "ann")
            await claim.store(connection, 201, ANSWER)

    async def unguarded() -> None:
        order = _order()
        async with bare.transaction():
            await bare.execute(
                "INSERT INTO floor (scope, key, fingerprint, lease, lease_until, expires_at) "
                "VALUES ('ann', $1, 'f', gen_random_uuid(), now(), now() + interval '1 day')",
                order["id"],
            )
            await bare.execute(
                "UPDATE floor SET status = 201, body = '{}', lease = NULL, lease_until = NULL "
                "WHERE scope = 'ann' AND key = $1",
                order["id"],
            )

    return Comparison(
        "idempotency: a key claimed, the answer stored",
        "Ours in PostgreSQL, in the transaction of the effect: four round trips and a flush to disk. powertools in "
        "Valkey, which may forget: two. The floor is the same two statements on a table of the same shape.",
        [
            Contender("claim and store", Role.OURS, repeated(ours)),
            powertools(stage, _order),
            Contender(UNGUARDED, Role.FLOOR, repeated(unguarded)),
        ],
        [Floor(UNGUARDED, 1.3)],
        why="A key that survives a crash is committed; one in a cache is not. The floor shows what the commit costs.",
    )
