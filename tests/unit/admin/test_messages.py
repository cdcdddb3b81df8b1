"""Messages of gRPC as JSON, held against every message admin relays."""

import json
from datetime import datetime
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from pydantic import ValidationError

from holdfast.notifications.v1 import notifications_pb2 as pb
from holdfast.orders.v1 import coupon_desk_pb2, order_desk_pb2
from holdfast.payments.v1 import payments_pb2
from services.admin.relay.domain import STAFF_ID
from services.admin.relay.messages import model_for, to_json, to_message
from services.admin.routes import TABLE

DRAFT = {"name": "Autumn", "subject": "Autumn is here", "html": "<p>Coats</p>", "audience": {"all": True}}
CHANGE = {
    "customer_id": "c-1",
    "email": "a@example.com",
    "name": "Ada",
    "marketing_consent": False,
    "changed_at": "2026-11-01T13:00:00+01:00",
}


def read(descriptor: Descriptor, values: Any, **options: Any) -> Any:
    """What the relay does with a body."""
    model = model_for(descriptor, leave_out={STAFF_ID}, strict=True, **options)
    return to_message(descriptor, model.model_validate(values).model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize("route", TABLE, ids=lambda route: route.path)
def test_every_relayed_message_has_a_json_form(route: Any) -> None:
    """A field of a type without one stops the start, not a request; what we answer is what we say we answer."""
    model_for(route.request, strict=True)
    answer = model_for(route.rpc.output_type, names=route.names, strict=False)
    empty = to_json(to_message(route.rpc.output_type, {}), route.names)
    assert set(answer.model_fields) == set(empty)
    assert not route.id_field or route.id_field not in empty


def test_a_field_without_a_json_form_is_named() -> None:
    """An enumeration, say: whoever adds such a route learns at the start where to go on."""
    with pytest.raises(TypeError, match=r"CancelIntentResponse\.status has a type without a JSON form"):
        model_for(payments_pb2.CancelIntentResponse.DESCRIPTOR, strict=True)


def test_a_body_becomes_its_message() -> None:
    """Names as in the proto, one of the two bodies; the member of staff is never read from it."""
    message = read(pb.CreateCampaignRequest.DESCRIPTOR, {**DRAFT, "staff_id": "somebody-else", "unheard_of": 1})
    assert message == pb.CreateCampaignRequest(
        name="Autumn", subject="Autumn is here", html="<p>Coats</p>", audience=pb.Audience(all=True)
    )


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": None}, ("name",)),
        ({"name": 1}, ("name",)),
        ({"html": None}, ()),
        ({"template": "care_tips"}, ()),
        ({"audience": {"all": 1}}, ("audience", "all")),
        ({"audience": {"all": "true"}}, ("audience", "all")),
        ({"audience": []}, ("audience",)),
    ],
)
def test_a_body_that_does_not_fit_says_where(change: dict[str, Any], where: tuple[str, ...]) -> None:
    """A plain field must be there and of its type; of a choice exactly one is given. None leaves a field out."""
    body = {name: value for name, value in {**DRAFT, **change}.items() if value is not None}
    with pytest.raises(ValidationError) as caught:
        read(pb.CreateCampaignRequest.DESCRIPTOR, body)
    assert [error["loc"] for error in caught.value.errors()] == [where]


def test_instants_go_both_ways() -> None:
    """In any zone on the way in, in UTC on the way out."""
    message = read(pb.RecordCustomerChangedRequest.DESCRIPTOR, CHANGE)
    assert to_json(message) == {**CHANGE, "changed_at": "2026-11-01T12:00:00Z"}
    assert datetime.fromisoformat(to_json(message)["changed_at"]).utcoffset() is not None


def test_large_numbers_stay_numbers() -> None:
    """JSON as protobuf has it writes 64 bits as text; a client of ours reads a number."""
    answer = pb.SendCampaignResponse(campaign_id="c-1", status="sending", recipients=2**53 + 1)
    written = to_json(answer, {"campaign_id": "id"})
    assert written == {"id": "c-1", "status": "sending", "recipients": 2**53 + 1}
    assert '"recipients": 9007199254740993' in json.dumps(written)


def test_what_is_unset_is_answered_too() -> None:
    """Zero, empty or null, but there."""
    assert to_json(pb.GetCampaignStatsResponse()) == {
        "recipients": 0,
        "queued": 0,
        "sent": 0,
        "failed": 0,
        "unknown": 0,
        "suppressed": 0,
        "status": "",
        "cancelled": 0,
    }
    assert to_json(pb.CreateCampaignRequest())["audience"] is None


def test_a_query_is_text_and_is_read_as_what_it_means() -> None:
    """Where JSON is strict a query cannot be."""
    model = model_for(pb.Audience.DESCRIPTOR, strict=False)
    assert model.model_validate({"all": "true"}).model_dump(exclude_defaults=True) == {"all": True}
    with pytest.raises(ValidationError):
        model_for(pb.Audience.DESCRIPTOR, strict=True).model_validate({"all": "true"})


@pytest.mark.parametrize(
    ("message", "field", "words"),
    [
        (coupon_desk_pb2.CreateCouponRequest, "value", "(1000 is 10 %), or minor units"),
        (coupon_desk_pb2.Coupon, "value", "(1000 is 10 %), or minor units"),
        (order_desk_pb2.RefundOrderRequest, "reason", "who is mailed it"),
    ],
)
def test_the_schema_says_what_a_name_does_not(message: Any, field: str, words: str) -> None:
    """Ten percent is not 10, and a note for the books would reach the customer."""
    schema = model_for(message.DESCRIPTOR, strict=True).model_json_schema()
    assert words in schema["properties"][field]["description"]
