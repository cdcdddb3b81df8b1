"""Accounts as a whole, on a real database and cache."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc.aio
import httpx
import orjson
import pytest_asyncio

from holdfast.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from holdfast.orders.v1 import orders_pb2, orders_pb2_grpc
from holdfast.payments.v1 import payments_pb2, payments_pb2_grpc
from reliability.errors import Unavailable
from reliability.ids import new_id
from reliability.redis import Cache
from reliability.rpc.status import DETAILS, to_status
from reliability.runtime import Application, Runtime
from services.accounts.app import build
from services.accounts.settings import AccountsSettings

PASSWORD = "correct horse battery staple"
OWNER = "owner@holdfast.example"
CUSTOMER = "ada@example.com"
CUSTOMER_PASSWORD = "kibble and bits for forty-two"


@dataclass(frozen=True)
class Mail:
    """A mail that was handed over."""

    key: str
    to: str
    template: str
    data: dict[str, Any]


class Contacts(notifications_pb2_grpc.NotificationsServiceServicer):
    """The receiving side of customer changes and mails, which can be made to fail."""

    def __init__(self) -> None:
        self.calls: list[notifications_pb2.RecordCustomerChangedRequest] = []
        self.mails: list[Mail] = []
        self.erased: list[tuple[str, str]] = []
        self.away = False

    async def RecordCustomerChanged(  # noqa: N802
        self,
        request: notifications_pb2.RecordCustomerChangedRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> notifications_pb2.RecordCustomerChangedResponse:
        await self._answer(context)
        self.calls.append(request)
        return notifications_pb2.RecordCustomerChangedResponse()

    async def RecordCustomerErased(  # noqa: N802
        self,
        request: notifications_pb2.RecordCustomerErasedRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> notifications_pb2.RecordCustomerErasedResponse:
        await self._answer(context)
        self.erased.append((request.customer_id, request.email))
        return notifications_pb2.RecordCustomerErasedResponse()

    async def SendEmail(  # noqa: N802
        self, request: notifications_pb2.SendEmailRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> notifications_pb2.SendEmailResponse:
        await self._answer(context)
        mail = Mail(request.idempotency_key, request.to, request.template, orjson.loads(request.data_json))
        known = {each.key: each for each in self.mails}
        assert known.get(mail.key, mail) == mail, "the same key for another mail"
        if mail.key not in known:
            self.mails.append(mail)
        return notifications_pb2.SendEmailResponse(email_id=new_id())

    async def _answer(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        if self.away:
            code, details = to_status(Unavailable("away"))
            await context.abort(code, "away", ((DETAILS, details),))


class Parcels(orders_pb2_grpc.OrdersServiceServicer):
    """Orders, as far as it forgets customers."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[str, str]] = []
        self.kept = False

    async def ForgetCustomer(  # noqa: N802
        self, request: orders_pb2.ForgetCustomerRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> orders_pb2.ForgetCustomerResponse:
        self.forgotten.append((request.customer_id, request.email))
        return orders_pb2.ForgetCustomerResponse(kept=self.kept)


class Bills(payments_pb2_grpc.PaymentsServiceServicer):
    """Payments, as far as it forgets customers."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[str, str]] = []

    async def ForgetCustomer(  # noqa: N802
        self, request: payments_pb2.ForgetCustomerRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> payments_pb2.ForgetCustomerResponse:
        self.forgotten.append((request.customer_id, request.email))
        return payments_pb2.ForgetCustomerResponse()


@dataclass
class Accounts:
    """The service under test, its runtime and the receiver of its outbox."""

    runtime: Runtime[AccountsSettings]
    application: Application
    http: httpx.AsyncClient
    contacts: Contacts
    parcels: Parcels
    bills: Bills

    async def login(self, email: str = OWNER, password: str = PASSWORD, client: str = "192.0.2.1") -> httpx.Response:
        body = {"email": email, "password": password}
        return await self.http.post("/api/auth/login", json=body, headers={"X-Client-Address": client})

    async def work(self) -> None:
        """Runs every job that is due, and those that wait for another try."""
        await self.execute("UPDATE jobs SET run_at = now() WHERE state = 'queued'")
        await self.runtime.worker.run_until_idle()

    async def execute(self, statement: str, *values: object) -> str:
        async with self.runtime.database.connection() as connection:
            return str(await connection.execute(statement, *values))

    async def value(self, statement: str, *values: object) -> Any:
        async with self.runtime.database.connection() as connection:
            return await connection.fetchval(statement, *values)

    async def sign_up(
        self, email: str = CUSTOMER, password: str = CUSTOMER_PASSWORD, client: str = "192.0.2.7", **fields: Any
    ) -> httpx.Response:
        body = {"email": email, "password": password, "name": "Ada Lovelace", **fields}
        return await self.http.post("/api/auth/signup", json=body, headers={"X-Client-Address": client})

    async def customer(self, email: str = CUSTOMER, password: str = CUSTOMER_PASSWORD) -> dict[str, str]:
        """A customer who has proven their address, signed in: the header that says so."""
        number = int(await self.value("SELECT count(*) FROM accounts"))
        signed_up = await self.sign_up(email, password, client=f"198.51.100.{number}")
        assert signed_up.status_code == 201, signed_up.text
        await self.work()
        assert (await self.click("email_verification", to=email)).status_code == 204
        answer = await self.login(email, password, client=f"198.51.100.{number}")
        assert answer.status_code == 200, answer.text
        self.http.cookies.clear()
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def token(self, template: str, *, to: str = CUSTOMER) -> str:
        """The token of the last link of one kind."""
        link: str = [mail for mail in self.mails(template) if mail.to == to][-1].data["link"]
        return link.partition("#token=")[2]

    async def click(self, template: str, *, to: str = CUSTOMER) -> httpx.Response:
        """Clicks on the last link of one kind that proves an address."""
        return await self.http.post("/api/auth/verify-email", json={"token": self.token(template, to=to)})

    def mails(self, template: str) -> list[Mail]:
        """What was handed over of one kind."""
        return [mail for mail in self.contacts.mails if mail.template == template]


MakeAccounts = Callable[..., Awaitable[Accounts]]


@pytest_asyncio.fixture(loop_scope="session")
async def make_accounts(
    servers: Any,
    cache: Cache,
    runtime_for: Callable[..., Awaitable[Runtime[AccountsSettings]]],
    client_for: Callable[[Application], httpx.AsyncClient],
    serve_rpc: Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]],
    monkeypatch: Any,
) -> MakeAccounts:
    """Builds the service, as in `await make_accounts(public_url="https://shop.test")`."""
    del cache  # the limits start from zero

    async def make(**overrides: object) -> Accounts:
        contacts = Contacts()  # type: ignore[abstract]  # the others answer UNIMPLEMENTED
        parcels = Parcels()  # type: ignore[abstract]
        bills = Bills()  # type: ignore[abstract]
        connect = await serve_rpc(
            Application(
                rpcs={
                    notifications_pb2.DESCRIPTOR.services_by_name["NotificationsService"]: partial(
                        notifications_pb2_grpc.add_NotificationsServiceServicer_to_server, contacts
                    ),
                    orders_pb2.DESCRIPTOR.services_by_name["OrdersService"]: partial(
                        orders_pb2_grpc.add_OrdersServiceServicer_to_server, parcels
                    ),
                    payments_pb2.DESCRIPTOR.services_by_name["PaymentsService"]: partial(
                        payments_pb2_grpc.add_PaymentsServiceServicer_to_server, bills
                    ),
                }
            )
        )
        values = {
            "notifications_grpc": "localhost:1",
            "orders_grpc": "localhost:1",
            "payments_grpc": "localhost:1",
            "accounts_secret": "a secret of thirty-two characters",
            "signing_key_file": servers.tls / "signing.key",
            "staff_email": OWNER,
            "staff_password": PASSWORD,
        }
        runtime = await runtime_for("accounts", AccountsSettings, **(values | overrides))
        monkeypatch.setattr(runtime, "channel", lambda _address: connect("accounts"))
        application = build(runtime)
        assert application.on_start is not None
        await application.on_start()
        return Accounts(runtime, application, client_for(application), contacts, parcels, bills)

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def accounts(make_accounts: MakeAccounts) -> Accounts:
    """The service with its defaults."""
    return await make_accounts()
