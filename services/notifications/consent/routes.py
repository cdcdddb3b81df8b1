"""HTTP edge of consent: preferences, the link in every newsletter, the mail provider's webhook."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from markupsafe import escape
from starlette.responses import HTMLResponse, Response

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.context import Principal, principal
from reliability.errors import MalformedJson, Unauthenticated
from services.notifications.consent import svix
from services.notifications.consent.schemas import PreferenceChange, Preferences, WebhookAnswer
from services.notifications.consent.service import ConsentService
from services.notifications.consent.tokens import Intent
from services.notifications.mail.domain import Topic
from services.notifications.mail.templates import SHOP

__all__ = ["endpoints"]

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
_NAMES: Final = {
    Topic.NEWS: "news",
    Topic.CART_REMINDERS: "reminders of a cart you left",
    Topic.BACK_IN_STOCK: "notices that something is back in stock",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f3f5f1;color:#24302b}}
main{{max-width:520px;margin:12vh auto 0;padding:32px;background:#fff;border:1px solid #dde3dc;border-radius:8px}}
h1{{margin:0 0 16px;font-size:24px;color:#17372c}}p{{margin:0 0 20px}}
button{{font:inherit;font-weight:600;color:#fff;background:#1d6b50;border:0;border-radius:6px;padding:12px 22px}}
</style>
</head><body><main><h1>{title}</h1><p>{text}</p>{form}</main></body></html>"""
_FORM: Final = '<form method="post"><button>{words}</button></form>'


def endpoints(service: ConsentService, webhook_secrets: Sequence[str]) -> list[Endpoint]:
    """The routes of consent."""

    async def show(_call: Call) -> Answer:
        return Answer(await service.preferences(_who()))

    async def change(call: Call) -> Answer:
        body: PreferenceChange = call.body
        return Answer(await service.change(_who(), body.wishes()))

    async def ask(call: Call) -> Response:
        # Mail scanners follow every link: looking changes nothing.
        return _question(service.read(call.path("token")))

    async def follow(call: Call) -> Response:
        return _done(await service.follow(call.path("token")))

    async def webhook(call: Call) -> Answer:
        event_id = svix.verify(call.raw, call.request.headers, webhook_secrets)
        fresh = await service.receive(event_id, _event(call.raw), call.raw)
        return Answer(WebhookAnswer(duplicate=not fresh))

    customer, path = Access.CUSTOMER, "/api/unsubscribe/{token}"
    return [
        Endpoint("GET", "/api/me/preferences", show, access=customer, answer=Preferences),
        Endpoint("PUT", "/api/me/preferences", change, access=customer, body=PreferenceChange, answer=Preferences),
        Endpoint("GET", path, ask),
        Endpoint("POST", path, follow, key=KeyRule.IGNORED),
        Endpoint(
            "POST", "/api/email/webhook", webhook, access=Access.SIGNED, key=KeyRule.IGNORED, answer=WebhookAnswer
        ),
    ]


def _who() -> Principal:
    who = principal.get()
    if who is None:
        raise Unauthenticated
    return who


def _event(raw: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"The body is not well-formed JSON: {error.msg}.") from None
    if not isinstance(event, dict):
        raise MalformedJson("The body is not a JSON object.")
    return event


def _question(intent: Intent) -> Response:
    about, address = _NAMES[intent.topic], escape(intent.address)
    if intent.purpose == "decline":
        text = f"{SHOP} will send no more {about} to {address}."
        return _page("Unsubscribe?", text, _FORM.format(words="Unsubscribe"))
    return _page("Shall we write to you?", f"{SHOP} will send {about} to {address}.", _FORM.format(words="Yes, please"))


def _done(intent: Intent) -> Response:
    about, address = _NAMES[intent.topic], escape(intent.address)
    if intent.purpose == "decline":
        return _page("You are unsubscribed", f"{address} gets no more {about} from us.", "")
    return _page("Thank you", f"{address} gets {about} from us. Every one has a link that ends it.", "")


def _page(title: str, text: str, form: str) -> Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(_PAGE.format(title=title, text=text, form=form), headers=headers)
