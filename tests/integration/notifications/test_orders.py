"""RecordOrderPaid: who bought what, and the confirmation of it, in one step and once per order."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.common.v1.money_pb2 import Money
from holdfast.notifications.v1 import notifications_pb2 as pb
from reliability.errors import Problem
from tests.integration.notifications.support import Office, confirmation, order_data

ORDER = str(UUID(int=7))
PAID_AT = Timestamp()
PAID_AT.FromDatetime(datetime(2026, 11, 20, tzinfo=UTC))


def sold(confirmed: str | None = None, **fields: Any) -> pb.RecordOrderPaidRequest:
    values: dict[str, Any] = {
        "order_id": ORDER,
        "customer_id": str(UUID(int=1)),
        "email": "ada@example.com",
        "total": Money(amount=8058, currency="USD"),
        "product_ids": ["kibble"],
        "paid_at": PAID_AT,
        "confirmation_json": json.dumps(order_data()) if confirmed is None else confirmed,
        **fields,
    }
    return pb.RecordOrderPaidRequest(**values)


async def test_an_order_told_twenty_times_is_one_purchase_and_one_mail(office: Office) -> None:
    """At once and once more when it was sent, whatever it says by then: the same id for all."""
    answers = await asyncio.gather(*(office.stub.RecordOrderPaid(sold()) for _ in range(20)))
    await office.work()
    again = await office.stub.RecordOrderPaid(
        sold(json.dumps(order_data(customer_name="Eve")), email="eve@example.com")
    )
    await office.work()
    email = await office.email()
    assert {answer.email_id for answer in [*answers, again]} == {str(email["id"])}
    assert (email["idempotency_key"], email["state"]) == (f"order-confirmation:{ORDER}", "sent")
    assert office.mailbox.recipients() == ["ada@example.com"]
    bought = await office.rows("SELECT order_id, buyer, total, product_ids FROM purchases")
    assert bought == [{"order_id": UUID(ORDER), "buyer": str(UUID(int=1)), "total": 8058, "product_ids": ["kibble"]}]
    assert (await office.counts())["jobs"] == 1


async def test_versions_may_mix(office: Office) -> None:
    """Told by one that sends the mail by itself and then by one that does not, or the other way round: one mail."""
    key = f"order-confirmation:{ORDER}"
    first = await office.stub.SendEmail(confirmation(key))
    assert (await office.stub.RecordOrderPaid(sold())).email_id == first.email_id
    other = str(UUID(int=8))
    second = await office.stub.RecordOrderPaid(sold(order_id=other))
    assert (await office.stub.SendEmail(confirmation(f"order-confirmation:{other}"))).email_id == second.email_id
    await office.work()
    assert office.mailbox.recipients() == ["ada@example.com"] * 2
    assert len(await office.rows("SELECT FROM purchases")) == 2


async def test_a_purchase_without_a_mail_is_remembered(office: Office) -> None:
    """Of an order whose mail is somebody else's to ask for; with the mail it is told of again."""
    assert (await office.stub.RecordOrderPaid(sold(""))).email_id == ""
    assert (await office.counts())["emails"] == 0
    assert (await office.stub.RecordOrderPaid(sold())).email_id
    assert len(await office.rows("SELECT FROM purchases")) == 1


@pytest.mark.parametrize(
    ("request_", "pointer"),
    [
        (sold("{"), "/confirmation_json"),
        (sold("[]"), "/confirmation"),
        (sold("{}"), "/data/order_number"),
        (sold(email="nobody"), "/email"),
        (sold(order_id="x"), "/order_id"),
        (sold(paid_at=None), "/paid_at"),
    ],
)
async def test_what_cannot_be_written_is_not_remembered_either(
    office: Office, request_: pb.RecordOrderPaidRequest, pointer: str
) -> None:
    """A bad request is the caller's 422 with a pointer, and changes nothing."""
    with pytest.raises(Problem) as caught:
        await office.stub.RecordOrderPaid(request_)
    assert caught.value.status == 422
    assert pointer in {error["pointer"] for error in caught.value.extensions["errors"]}
    assert set((await office.counts()).values()) == {0}
    assert await office.rows("SELECT FROM purchases") == []


async def test_who_was_erased_gets_the_mail_and_is_not_remembered(office: Office) -> None:
    """What they bought on the last day is still confirmed."""
    erasure = pb.RecordCustomerErasedRequest(customer_id=str(UUID(int=1)), email="ada@example.com")
    await office.stub.RecordCustomerErased(erasure)
    await office.stub.RecordOrderPaid(sold())
    await office.work()
    assert office.mailbox.recipients() == ["ada@example.com"]
    assert await office.rows("SELECT FROM purchases") == []


async def test_a_confirmation_does_not_go_where_mail_has_bounced(office: Office) -> None:
    """The purchase counts all the same."""
    await office.execute("INSERT INTO suppressions (address, reason) VALUES ('ada@example.com', 'bounced')")
    await office.stub.RecordOrderPaid(sold())
    await office.work()
    assert (await office.email())["state"] == "suppressed"
    assert office.mailbox.recipients() == []
    assert len(await office.rows("SELECT FROM purchases")) == 1
