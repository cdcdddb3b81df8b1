"""Fixtures of the notifications suite."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import grpc.aio
import pytest
import pytest_asyncio

from holdfast.notifications.v1 import notifications_pb2_grpc
from reliability import audit
from reliability.audit import Entry
from reliability.errors import Problem
from reliability.rpc.status import from_call
from reliability.runtime import Application, Runtime
from sandbox.mailbox import smtp
from sandbox.mailbox.faults import Faults
from sandbox.mailbox.store import Store
from services.notifications.app import compose
from services.notifications.mail import jobs as mail_jobs
from services.notifications.mail.connections import SmtpServer
from services.notifications.mail.smtp import SmtpMailer
from services.notifications.settings import NotificationsSettings
from tests.integration.notifications.support import Mailbox, Office, SwitchedMailer

SECRET = "a secret of thirty-two characters"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"the mail provider's secret").decode()
SENDER = "Holdfast <shop@holdfast.example>"
StubAs: TypeAlias = Callable[[str], Any]


@pytest_asyncio.fixture(loop_scope="session")
async def mailbox(tmp_path: Path) -> AsyncIterator[Mailbox]:
    """An empty mailbox that takes mail."""
    store, faults = Store(tmp_path / "mailbox.db"), Faults()
    server = await smtp.serve(store, faults, "127.0.0.1", 0)
    yield Mailbox(server.sockets[0].getsockname()[1], store, faults)
    server.close()
    store.close()


class _Stub:
    """A stub whose failures are the problems they stand for, as `rpc.invoke` raises them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = notifications_pb2_grpc.NotificationsServiceStub(channel)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._stub, name)

        async def call(request: Any, *, correlation_id: str = "") -> Any:
            metadata = [("x-correlation-id", correlation_id)] if correlation_id else None
            try:
                return await method(request, timeout=20, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                problem: Problem = from_call(error, name)
                raise problem from error

        return call


@pytest_asyncio.fixture(loop_scope="session")
async def office(
    mailbox: Mailbox,
    runtime_for: Callable[..., Awaitable[Runtime[NotificationsSettings]]],
    serve_rpc: Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]],
) -> AsyncIterator[Office]:
    """Notifications with admin's stub. Single mails and campaigns go to the mailbox."""
    url = f"smtp://127.0.0.1:{mailbox.port}"
    runtime = await runtime_for(
        "notifications",
        NotificationsSettings,
        mail_url=url,
        mail_from=SENDER,
        campaign_batch=7,
        campaign_rate=10_000,
        database_pool_size=20,
        link_secret=SECRET,
        mail_webhook_secret=WEBHOOK_SECRET,
        public_url="https://shop.example",
    )
    real = SmtpMailer(SmtpServer.of(runtime.settings.mail_url), SENDER, connections=8, cap=2.0)
    mailer = SwitchedMailer(real)
    application = compose(runtime, mailer)
    audit.deliver(runtime.worker, runtime.database, _taken)  # admin is another suite's
    incidents: list[Mapping[str, Any]] = []

    async def raised(incident: Mapping[str, Any]) -> None:
        incidents.append(incident)

    mail_jobs.raise_incidents(runtime.worker, raised)
    connect = await serve_rpc(application)
    # One worker kind of certificate is enough for both halves of the suite: accounts' is asked for where it matters.
    stubs = {name: _Stub(connect(name)) for name in ("admin", "accounts", "orders")}
    yield Office(runtime, application, mailbox, mailer, _Both(stubs), incidents)
    await real.close()


async def _taken(_entry: Entry) -> None:
    """An audit log that takes everything."""


class _Both:
    """Calls each RPC as the service that may."""

    def __init__(self, stubs: dict[str, _Stub]) -> None:
        self.stubs = stubs

    def __getattr__(self, name: str) -> Any:
        caller = "accounts" if name.startswith("RecordCustomer") else "orders" if name.startswith("Record") else "admin"
        return getattr(self.stubs[caller], name)


@pytest.fixture
def anyone(office: Office) -> dict[str, Any]:
    """Stubs by the name on the caller's certificate."""
    stubs: dict[str, Any] = office.stub.stubs
    return stubs


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Waits until a condition holds, a minute at most."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await condition():
                await asyncio.sleep(0.01)

    return wait
