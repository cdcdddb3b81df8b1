"""A shop that has been open for a while: copies of one whole order, as many as are asked for, in every database.

Each copy has its own cart, lines, payment, timeline, jobs, hold, sale, event and mail, spread over the last ninety
days, so that every index has what it would have then. Words of mails and bodies of events, which no statement of a
purchase reads, are cut short.
"""

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import asyncpg
from rich.console import Console
from rich.progress import Progress

from deploy.local.databases import database_of
from deploy.local.system import System

__all__ = ["fill"]

_AT_A_TIME: Final = 50_000
_DAYS: Final = 90
# A time-ordered id (RFC 9562, version 7) that is the same wherever the n-th copy is spoken of.
_UUID: Final = """
(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0') || '7' || substr(md5('{kind}' || n), 1, 3) || '8'
 || substr(md5('{kind}' || n), 4, 15))::uuid
"""
_AT: Final = f"(now() - interval '{_DAYS} days' + n * interval '{_DAYS} days' / $2::int)"
_BORN: Final = f"(date_trunc('day', now()) - interval '{_DAYS} days' + n * interval '1 second')"
_ORDER: Final = _UUID.format(at=_BORN, kind="order")
_CART: Final = _UUID.format(at=_BORN, kind="cart")
_OWN: Final = _UUID.format(at=_BORN, kind="own")
_INTENT: Final = "'pi_old_' || n"
_FLOW: Final = "'old-' || n"
_MAIL: Final = "'old-' || n || '@example.com'"
_TABLES: Final[Mapping[str, Mapping[str, tuple[str, Mapping[str, str]]]]] = {
    "orders": {
        "carts": (
            "id = (SELECT cart_id FROM orders WHERE id = $1::text::uuid)",
            {"id": _CART, "created_at": _AT, "updated_at": _AT},
        ),
        "cart_items": (
            "cart_id = (SELECT cart_id FROM orders WHERE id = $1::text::uuid)",
            {"id": _OWN, "cart_id": _CART},
        ),
        "orders": (
            "id = $1::text::uuid",
            {
                "id": _ORDER,
                "number": "'OLD-' || n",
                "cart_id": _CART,
                "email": _MAIL,
                "payment_intent_id": _INTENT,
                "client_secret": "'secret_' || n",
                "correlation_id": _FLOW,
                "created_at": _AT,
                "paid_at": _AT,
                "hold_expires_at": _AT,
            },
        ),
        "order_lines": ("order_id = $1::text::uuid", {"order_id": _ORDER}),
        "order_payments": (
            "order_id = $1::text::uuid",
            {"order_id": _ORDER, "payment_intent_id": _INTENT, "recorded_at": _AT},
        ),
        "order_events": ("order_id = $1::text::uuid", {"order_id": _ORDER, "correlation_id": _FLOW, "at": _AT}),
        "jobs": (
            "unique_key = $1::text",
            {
                "unique_key": f"{_ORDER}::text",
                "payload": f"jsonb_build_object('order_id', {_ORDER})",
                "correlation_id": _FLOW,
                "state": "'done'",
                "run_at": _AT,
                "created_at": _AT,
                "finished_at": _AT,
            },
        ),
    },
    "catalog": {
        "holds": (
            "order_id = $1::text::uuid",
            {
                "order_id": _ORDER,
                "correlation_id": _FLOW,
                "expires_at": _AT,
                "created_at": _AT,
                "changed_at": _AT,
            },
        ),
        "hold_lines": ("order_id = $1::text::uuid", {"order_id": _ORDER}),
        "sales": ("order_id = $1::text::uuid", {"order_id": _ORDER, "correlation_id": _FLOW, "sold_at": _AT}),
    },
    "payments-webhooks": {
        "payments": (
            "order_id = $1::text::uuid",
            {
                "id": _OWN,
                "order_id": _ORDER,
                "email": _MAIL,
                "payment_intent_id": _INTENT,
                "client_secret": "'secret_' || n",
                "correlation_id": _FLOW,
                "created_at": _AT,
                "updated_at": _AT,
            },
        ),
        "inbox": (
            "object_key = (SELECT payment_intent_id FROM payments WHERE order_id = $1::text::uuid)",
            {
                "event_id": "'evt_old_' || event_type || n",
                "object_key": _INTENT,
                "body": "'{}'::bytea",
                "correlation_id": _FLOW,
                "received_at": _AT,
                "finished_at": _AT,
            },
        ),
    },
    "notifications": {
        "emails": (
            "idempotency_key = 'order-confirmation:' || $1::text",
            {
                "id": _OWN,
                "idempotency_key": f"'order-confirmation:' || {_ORDER}",
                '"to"': _MAIL,
                "data": "'{}'",
                "html": "''",
                "text": "''",
                "message_id": "'<old-' || n || '@example.com>'",
                "correlation_id": _FLOW,
                "created_at": _AT,
                "sent_at": _AT,
                "settled_at": _AT,
                "due_at": _AT,
            },
        ),
    },
}
_WHOLE: Final = "SELECT id::text FROM orders WHERE stock = 'committed' AND status = 'paid' ORDER BY id DESC LIMIT 1"
_TIDYING: Final = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
_COLUMNS: Final = """
SELECT quote_ident(attname) FROM pg_attribute
 WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = ''
"""


async def fill(system: System, orders: int, console: Console) -> None:
    """Copies the newest whole order so many times. It must have been bought before."""
    parts = urlsplit(system.endpoints.postgres)
    connections = {
        service: await asyncpg.connect(parts._replace(path=f"/{database_of(service)}").geturl()) for service in _TABLES
    }
    model = await connections["orders"].fetchval(_WHOLE)
    with Progress(console=console, transient=True) as progress:
        for service, tables in _TABLES.items():
            connection = connections[service]
            # What refers to what is as it was in the model: nothing has to be looked up for it.
            await connection.execute("SET session_replication_role = replica")
            for table, (condition, own) in tables.items():
                task = progress.add_task(f"{service}: {table}", total=orders)
                columns = [row[0] for row in await connection.fetch(_COLUMNS, table)]
                copied = f"""
                INSERT INTO {table} ({", ".join(columns)})
                SELECT {", ".join(own.get(name, f"model.{name}") for name in columns)}
                  FROM {table} AS model, generate_series($3::int, $4::int) AS n
                 WHERE {condition} AND $2::int > 0
                """
                for first in range(1, orders + 1, _AT_A_TIME):
                    last = min(orders, first + _AT_A_TIME - 1)
                    await connection.execute(copied, model, orders, first, last)
                    progress.advance(task, last - first + 1)
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")
        # It would be counted as what a purchase costs.
        while await connections["orders"].fetchval(_TIDYING):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(1)
    for connection in connections.values():
        await connection.close()
