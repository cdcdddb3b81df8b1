"""What an event is, and what only looks like one."""

from typing import Any

import orjson
import pytest

from services.payments_webhooks.errors import InvalidEvent
from services.payments_webhooks.webhook.domain import parse

INTENT = {"id": "pi_1", "metadata": {"order_id": "o", "note": "käse"}}
EVENT = {"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": INTENT}}


def event(**changes: Any) -> bytes:
    return orjson.dumps({**EVENT, **changes})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        *(event(id=value) for value in (None, 1, "", "a\0b", "evt 1", "x" * 256, {"a": 1})),
        *(event(type=value) for value in (None, "", "a\0b")),
        *(event(data=value) for value in (None, {}, {"object": None}, {"object": [["id", "pi_1"]]})),
    ],
)
def test_what_could_never_be_stored_is_no_event(body: bytes) -> None:
    """400 and not 503: it would be sent again for three days and never fit. Two events without an id are not one."""
    with pytest.raises(InvalidEvent):
        parse(body)


@pytest.mark.parametrize(
    ("found", "key"),
    [
        ({"id": "pi_1"}, "pi_1"),
        ({"id": "re_1", "payment_intent": "pi_1"}, "pi_1"),
        ({"id": "re_1", "payment_intent": {"id": "pi_1"}}, "re_1"),
        ({"id": "a\0b"}, "evt_1"),
        ({"id": "x" * 256}, "evt_1"),
        ({}, "evt_1"),
    ],
)
def test_an_event_is_kept_in_line_by_what_it_is_about(found: dict[str, Any], key: str) -> None:
    """By its intent, else its object; by itself when neither can be a key."""
    assert parse(event(data={"object": found})).object_key == key


@pytest.mark.parametrize("metadata", [None, [], "text", {"a": {"b": 1}, "c": 5}])
def test_metadata_is_text_or_not_there(metadata: Any) -> None:
    """Whatever is signed: nothing that is no text goes on as a correlation id."""
    assert parse(event(data={"object": {"id": "pi_1", "metadata": metadata}})).metadata == {}
    assert parse(event()).metadata == INTENT["metadata"]
