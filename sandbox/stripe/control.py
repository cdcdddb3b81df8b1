"""/_sandbox: what a customer, a bank and bad luck do. No key is asked for: it is there to be played with."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from json import JSONDecodeError
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.stripe import (
    cards,
    checkout_sessions,
    disputes,
    faults,
    ids,
    outbox,
    payment_methods,
    payments,
    refunds,
    subscriptions,
)
from sandbox.stripe.api import base_url, error_response
from sandbox.stripe.errors import ApiError, InvalidParameter, Json
from sandbox.stripe.faults import FaultError
from sandbox.stripe.ledger import Ledger
from sandbox.stripe.outbox import Notice
from sandbox.stripe.store import Store
from sandbox.stripe.totals import totals
from sandbox.stripe.webhooks import Dispatcher

Action = Callable[[Ledger, str, Json], Json]

_MOST_COPIES = 100
_MOST_LISTED = 10_000


class Control:
    """The endpoints under /_sandbox."""

    def __init__(
        self, store: Store, dispatcher: Dispatcher, clock: Callable[[], float], *, webhooks: tuple[str, ...]
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._webhooks = webhooks

    def routes(self) -> list[Route]:
        """Every endpoint."""
        acts: tuple[tuple[str, Action], ...] = (
            ("payment_intents/{id}/pay", pay_intent),
            ("payment_intents/{id}/authenticate", authenticate),
            ("payment_intents/{id}/settle", settle_intent),
            ("refunds/{id}/settle", settle_refund),
            ("payment_intents/{id}/dispute", dispute_intent),
            ("disputes/{id}/decide", decide_dispute),
            ("subscriptions/{id}/renew", renew_subscription),
            ("checkout/sessions/{id}/pay", pay_session),
        )
        return [
            *(Route(f"/_sandbox/{path}", self._act(action), methods=["POST"]) for path, action in acts),
            Route("/_sandbox/deliveries", self._deliveries, methods=["GET"]),
            Route("/_sandbox/ledger", self._ledger, methods=["GET"]),
            Route("/_sandbox/events/{id}/redeliver", self._redeliver, methods=["POST"]),
            Route("/_sandbox/faults", self._list_faults, methods=["GET"]),
            Route("/_sandbox/faults", self._order_fault, methods=["POST"]),
            Route("/_sandbox/faults", self._clear_faults, methods=["DELETE"]),
            Route("/_sandbox/reset", self._reset, methods=["POST"]),
        ]

    def perform(self, action: Action, object_id: str, body: Json) -> Json:
        """Run an action in one transaction; a refusal by the bank is kept, every other error leaves no trace."""
        ledger = Ledger(self._store, self._clock(), self._webhooks)
        declined: ApiError | None = None
        with self._store.transaction():
            try:
                result = action(ledger, object_id, body)
            except ApiError as error:
                if not error.keeps_effects:
                    raise
                declined = error
        self._dispatcher.wake()
        if declined is not None:
            raise declined
        return result

    def _act(self, action: Action) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(self.perform(action, request.path_params["id"], await read_json(request)))
            except ApiError as error:
                return error_response(error, ids.new("req"), base_url(request))

        return endpoint

    async def _deliveries(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", "1000")
        return JSONResponse(
            outbox.deliveries(
                self._store,
                event=query.get("event_id"),
                intent=query.get("payment_intent"),
                limit=min(int(limit), _MOST_LISTED) if limit.isdecimal() else 1000,
            )
        )

    async def _ledger(self, request: Request) -> Response:
        del request
        return JSONResponse(totals(self._store))

    async def _redeliver(self, request: Request) -> Response:
        try:
            body = await read_json(request)
            event = Ledger(self._store, self._clock(), self._webhooks).require("event", request.path_params["id"])
            count = _count(body)
        except ApiError as error:
            return error_response(error, ids.new("req"), base_url(request))
        notice = Notice(event["id"], event["type"], self._store.note(event["id"]))
        made = await self._dispatcher.redeliver(notice, count, concurrent=body.get("concurrent") is True)
        return JSONResponse({"event_id": event["id"], "deliveries": [asdict(attempt) for attempt in made]})

    async def _list_faults(self, request: Request) -> Response:
        del request
        return JSONResponse(faults.ordered(self._store))

    async def _order_fault(self, request: Request) -> Response:
        try:
            fault = faults.parse(await read_json(request))
        except FaultError as error:
            return error_response(InvalidParameter(str(error), param="fault"), ids.new("req"), base_url(request))
        except ApiError as error:
            return error_response(error, ids.new("req"), base_url(request))
        with self._store.transaction():
            return JSONResponse(faults.order(self._store, fault), 201)

    async def _clear_faults(self, request: Request) -> Response:
        del request
        with self._store.transaction():
            return JSONResponse({"cleared": faults.clear(self._store)})

    async def _reset(self, request: Request) -> Response:
        del request
        self._store.clear()
        return JSONResponse({"reset": True})


async def read_json(request: Request) -> Json:
    """A JSON object; an empty body is an empty one."""
    raw = await request.body()
    try:
        body: Any = json.loads(raw) if raw.strip() else {}
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidParameter("The body must be a JSON object.")
    return body


def _count(body: Json) -> int:
    count = body.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_COPIES:
        raise InvalidParameter(f'"count" must be a whole number from 1 to {_MOST_COPIES}.', param="count")
    return count


def _card(ledger: Ledger, body: Json) -> Json:
    number = str(body.get("card", "4242424242424242"))
    card = cards.by_number(number) or cards.by_token(number)
    if card is None:
        known = ", ".join(each.number for each in cards.CARDS)
        raise InvalidParameter(f"{number[:40]!r} is no test card. The known ones are {known}.", param="card")
    return payment_methods.build(ledger, card)


def _how(body: Json) -> payments.Confirmation:
    return payments.Confirmation(processing=body.get("processing") is True)


def _success(body: Json) -> bool:
    outcome = body.get("outcome")
    if outcome not in ("success", "fail"):
        raise InvalidParameter('"outcome" must be "success" or "fail".', param="outcome")
    return bool(outcome == "success")


def pay_intent(ledger: Ledger, intent_id: str, body: Json) -> Json:
    """What a customer with Stripe.js does: confirm with the client secret."""
    intent = ledger.require("payment_intent", intent_id, "intent")
    if body.get("client_secret") not in (None, intent["client_secret"]):
        raise InvalidParameter("The client_secret does not match the PaymentIntent.", param="client_secret")
    return payments.confirm(ledger, intent, _card(ledger, body), _how(body))


def authenticate(ledger: Ledger, intent_id: str, body: Json) -> Json:
    """The cardholder passes, or fails, the bank's question."""
    success = _success(body)
    intent = ledger.require("payment_intent", intent_id, "intent")
    payments.authenticate(ledger, intent, success=success)
    checkout_sessions.complete(ledger, intent)
    return intent


def settle_intent(ledger: Ledger, intent_id: str, body: Json) -> Json:
    """A payment that was left processing is decided."""
    success = _success(body)
    intent = ledger.require("payment_intent", intent_id, "intent")
    payments.settle(ledger, intent, success=success)
    checkout_sessions.complete(ledger, intent)
    return intent


def settle_refund(ledger: Ledger, refund_id: str, body: Json) -> Json:
    """The bank's last word on a refund."""
    success = _success(body)
    return refunds.settle(ledger, ledger.require("refund", refund_id), success=success)


def dispute_intent(ledger: Ledger, intent_id: str, body: Json) -> Json:
    """The cardholder contests what was paid."""
    reason = body.get("reason", "fraudulent")
    if reason not in disputes.REASONS:
        raise InvalidParameter(f'"reason" must be one of {", ".join(sorted(disputes.REASONS))}.', param="reason")
    intent = ledger.require("payment_intent", intent_id, "intent")
    return disputes.open_for(ledger, ledger.require("charge", intent["latest_charge"] or ""), reason)


def decide_dispute(ledger: Ledger, dispute_id: str, body: Json) -> Json:
    """The bank's last word on a dispute."""
    outcome = body.get("outcome")
    if outcome not in ("won", "lost"):
        raise InvalidParameter('"outcome" must be "won" or "lost".', param="outcome")
    return disputes.decide(ledger, ledger.require("dispute", dispute_id), won=outcome == "won")


def renew_subscription(ledger: Ledger, subscription_id: str, body: Json) -> Json:
    """The period is over, here and now: for customers without a test clock."""
    del body
    return subscriptions.renew(ledger, ledger.require("subscription", subscription_id))


def pay_session(ledger: Ledger, session_id: str, body: Json) -> Json:
    """The customer pays on the hosted page."""
    session = ledger.require("checkout.session", session_id, "session")
    return checkout_sessions.pay(ledger, session, _card(ledger, body), _how(body))
