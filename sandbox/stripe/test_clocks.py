"""/v1/test_helpers/test_clocks: time that is moved by hand, for the customers that were made on such a clock."""

from sandbox.stripe import ids, subscriptions
from sandbox.stripe.errors import InvalidParameter, Json
from sandbox.stripe.forms import names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, listing
from sandbox.stripe.store import field

_URL = "/v1/test_helpers/test_clocks"
_KIND = "test_helpers.test_clock"
_KEPT_SECONDS = 30 * 86_400


def create(call: Call) -> Json:
    """A clock that stands still at a moment."""
    call.params.require("frozen_time")
    clock: Json = {
        "id": ids.new("clock"),
        "object": _KIND,
        "created": call.ledger.now,
        "deletes_after": call.ledger.now + _KEPT_SECONDS,
        "frozen_time": call.params.integer("frozen_time"),
        "livemode": False,
        "name": call.params.text("name", limit=300),
        "status": "ready",
        "status_details": {},
    }
    call.ledger.store.insert(clock)
    call.ledger.emit("test_helpers.test_clock.created", clock)
    return clock


def advance(call: Call) -> Json:
    """Move a clock on. Everything that falls due on the way has happened when it is answered."""
    ledger, clock = call.ledger, retrieve(call)
    call.params.require("frozen_time")
    to = call.params.integer("frozen_time") or 0
    if to <= clock["frozen_time"]:
        raise InvalidParameter("You can only move a clock forward in time.", param="frozen_time")
    clock["frozen_time"] = to
    ledger.store.save(clock)
    ledger.emit("test_helpers.test_clock.advancing", dict(clock, status="advancing"))
    for subscription in ledger.store.every("subscription", field("test_clock", clock["id"])):
        _catch_up(ledger, subscription, to)
    ledger.emit("test_helpers.test_clock.ready", clock)
    return clock


def _catch_up(ledger: Ledger, subscription: Json, to: int) -> None:
    while subscriptions.period_end(subscription) <= to:
        before = subscriptions.period_end(subscription)
        subscription = subscriptions.renew(ledger, subscription)
        if subscriptions.period_end(subscription) == before:
            return


def retrieve(call: Call) -> Json:
    """One clock."""
    return call.ledger.require(_KIND, call.path["id"], "test_clock")


def index(call: Call) -> Json:
    """Clocks, newest first."""
    return listing(call, _KIND, _URL)


OPERATIONS = (
    Operation("POST", _URL, create, names("frozen_time name")),
    Operation("GET", _URL, index, names(LIST_PARAMS)),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
    Operation("POST", f"{_URL}/{{id}}/advance", advance, names("frozen_time")),
)
