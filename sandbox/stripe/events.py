"""/v1/events: what happened, for thirty days."""

from sandbox.stripe.errors import Json
from sandbox.stripe.forms import names
from sandbox.stripe.ledger import Call
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, listing
from sandbox.stripe.store import Condition, field

_URL = "/v1/events"
_LISTED_SECONDS = 30 * 86_400


def retrieve(call: Call) -> Json:
    """One event."""
    return call.ledger.require("event", call.path["id"])


def index(call: Call) -> Json:
    """Events of the last thirty days, newest first."""
    params = call.params
    conditions = [Condition("created >= ?", (call.ledger.now - _LISTED_SECONDS,))]
    one, several = params.text("type"), params.texts("types")
    if one and several:
        params.refuse("types", "You may pass either type or types, not both.")
    if len(several) > 20:
        params.refuse("types", "You may pass at most 20 types.")
    wanted = [one] if one else several
    if wanted:
        match = " OR ".join("json_extract(body, '$.type') GLOB ?" for _ in wanted)
        conditions.append(Condition(f"({match})", tuple(wanted)))
    if "delivery_success" in params:
        conditions.append(field("pending_webhooks", 0 if params.boolean("delivery_success") else 1))
    return listing(call, "event", _URL, conditions)


OPERATIONS = (
    Operation("GET", _URL, index, names(LIST_PARAMS, "type types delivery_success")),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
)
