"""A post office to test in: notifications over a real mailbox."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.applications import Starlette

from holdfast.notifications.v1 import notifications_pb2 as pb
from reliability.runtime import Application, Runtime
from sandbox.mailbox import smtp
from sandbox.mailbox.faults import Fault, Faults, Order
from sandbox.mailbox.message import Message as Received
from sandbox.mailbox.resend import resend_routes
from sandbox.mailbox.store import Store
from services.notifications.mail.domain import Message, Outcome
from services.notifications.mail.mailer import Batches, Mailer
from services.notifications.settings import NotificationsSettings

STAFF = "shop@holdfast.example"
EARLIER = datetime(2026, 11, 1, tzinfo=UTC)


def money(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


def order_data(**overrides: Any) -> dict[str, Any]:
    """Valid data of an order confirmation."""
    return {
        "order_number": "HF-10042",
        "customer_name": "Ada Lovelace",
        "items": [{"title": "Salmon Kibble", "quantity": 2, "unit_price": money(3499), "line_total": money(6998)}],
        "subtotal": money(6998),
        "discount": money(0),
        "shipping": money(500),
        "tax": money(560),
        "total": money(8058),
        "shipping_address": {
            "name": "Ada Lovelace",
            "line1": "12 Garden Street",
            "city": "Springfield",
            "postal_code": "62704",
            "region": "IL",
            "country": "US",
        },
        **overrides,
    }


def confirmation(key: str = "order-confirmation:1", to: str = "ada@example.com", **data: Any) -> pb.SendEmailRequest:
    return pb.SendEmailRequest(
        idempotency_key=key, to=to, template="order_confirmation", data_json=json.dumps(order_data(**data))
    )


def marketing(key: str = "tips:1", to: str = "ada@example.com") -> pb.SendEmailRequest:
    return pb.SendEmailRequest(idempotency_key=key, to=to, template="care_tips", data_json="{}")


def customer(number: int = 1, *, consent: bool = True, changed_at: datetime = EARLIER, **fields: Any) -> Any:
    """What accounts says of customer `number`."""
    stamp = Timestamp()
    stamp.FromDatetime(changed_at)
    values = {"email": f"customer{number}@example.com", "name": f"Customer {number}", **fields}
    return pb.RecordCustomerChangedRequest(
        customer_id=str(uuid.UUID(int=number)), marketing_consent=consent, changed_at=stamp, **values
    )


@dataclass
class Mailbox:
    """The sandbox's mailbox, on this event loop."""

    port: int
    store: Store
    faults: Faults
    http_port: int = 0

    def order(self, fault: Fault, **options: Any) -> None:
        self.faults.add(Order(fault=fault, **options))

    def messages(self, to: str = "") -> list[Received]:
        """Oldest first; what staff are told only when it is asked for by their address."""
        return [found for found in self.store.find(to=to)[::-1] if to or STAFF not in found.to]

    def recipients(self) -> list[str]:
        return sorted(address for message in self.messages() for address in message.to)


class Crash(BaseException):
    """The process is gone: nothing after this line happens, not even the worker's own bookkeeping."""


@dataclass
class CrashingMailer:
    """Dies before or after the mail server got the mail; `when` says for which mails."""

    inner: Mailer
    when: Callable[[Message], bool]
    after: bool
    remembers: float = 0.0
    batches: Batches | None = None

    async def close(self) -> None:
        await self.inner.close()

    async def send(self, message: Message) -> Outcome:
        if not self.when(message):
            return await self.inner.send(message)
        if self.after:
            await self.inner.send(message)
        raise Crash


@dataclass
class SwitchedMailer:
    """The mailer of the running process; a test swaps it."""

    inner: Mailer

    @property
    def remembers(self) -> float:
        return self.inner.remembers

    @property
    def batches(self) -> Batches | None:
        return self.inner.batches

    async def close(self) -> None:
        await self.inner.close()

    async def send(self, message: Message) -> Outcome:
        return await self.inner.send(message)


@dataclass
class Office:
    """The service, its mailbox, and shortcuts."""

    runtime: Runtime[NotificationsSettings]
    application: Application
    mailbox: Mailbox
    mailer: SwitchedMailer
    stub: Any = field(default=None)
    incidents: list[Mapping[str, Any]] = field(default_factory=list)

    async def work(self) -> int:
        """Everything that is due now."""
        return await self.runtime.worker.run_until_idle()

    async def work_later(self) -> int:
        """Everything that waits, as if its time had come."""
        await self.execute("UPDATE jobs SET run_at = now() WHERE state = 'queued'")
        await self.execute("UPDATE campaign_recipients SET retry_at = now() WHERE retry_at IS NOT NULL")
        return await self.work()

    async def recover(self) -> None:
        """What the next worker does first when one has died: frees its jobs as if their leases had run out."""
        await self.execute("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")
        await self.runtime.worker._recover()

    async def execute(self, statement: str, *values: object) -> str:
        async with self.runtime.database.connection() as connection:
            return str(await connection.execute(statement, *values))

    async def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        async with self.runtime.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(statement, *values)]

    async def email(self) -> dict[str, Any]:
        """The only mail there is, but for what staff are told of it."""
        (row,) = await self.rows("SELECT * FROM emails WHERE template <> 'mail_failed'")
        return row

    async def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        tables = ("emails", "jobs", "campaigns", "campaign_recipients", "contacts")
        (row,) = await self.rows("SELECT " + ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in tables))
        # The audit's jobs are another matter, and stay while there is no admin to take them.
        audit = "SELECT count(*)::int AS jobs FROM jobs WHERE kind = 'append_audit'"
        return {**row, "jobs": row["jobs"] - (await self.rows(audit))[0]["jobs"]}

    async def customers(self, count: int) -> None:
        """Consenting contacts 1 to `count`."""
        for number in range(1, count + 1):
            await self.stub.RecordCustomerChanged(customer(number))

    async def draft(self, **fields: Any) -> str:
        values: dict[str, Any] = {"name": "Autumn", "subject": "Autumn is here", "html": "<p>New coats</p>", **fields}
        if "template" in fields:
            del values["html"]
        request = pb.CreateCampaignRequest(audience=pb.Audience(all=True), staff_id="staff-1", **values)
        return str((await self.stub.CreateCampaign(request)).campaign_id)

    async def send(self, campaign_id: str) -> Any:
        return await self.stub.SendCampaign(pb.SendCampaignRequest(campaign_id=campaign_id, staff_id="staff-1"))

    async def stats(self, campaign_id: str) -> dict[str, Any]:
        """The states that are not zero, checked to add up."""
        found = await self.stub.GetCampaignStats(pb.GetCampaignStatsRequest(campaign_id=campaign_id))
        states = {
            name: getattr(found, name) for name in ("queued", "sent", "failed", "unknown", "suppressed", "cancelled")
        }
        assert sum(states.values()) == found.recipients
        return {"status": found.status, **{name: count for name, count in states.items() if count}}


def later(seconds: float) -> datetime:
    return EARLIER + timedelta(seconds=seconds)


@asynccontextmanager
async def serve_mailbox(folder: Path, requests_per_second: int = 10_000) -> AsyncIterator[Mailbox]:
    """A mailbox with both of its sides, SMTP and HTTP, on this event loop."""
    store, faults = Store(folder / "mailbox.db"), Faults()
    smtp_server = await smtp.serve(store, faults, "127.0.0.1", 0)
    routes = resend_routes(store, faults, requests_per_second=requests_per_second)
    config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    http_port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Mailbox(smtp_server.sockets[0].getsockname()[1], store, faults, http_port)
    finally:
        server.should_exit = True
        await serving
        smtp_server.close()
        store.close()
