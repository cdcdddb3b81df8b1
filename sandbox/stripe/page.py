"""The pages: `/` shows the books, `/c/pay/{id}` is the hosted payment page. Plain HTML, nothing from elsewhere."""

import json
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox.stripe import cards, outbox
from sandbox.stripe.control import Control, pay_session
from sandbox.stripe.errors import ApiError, Json
from sandbox.stripe.forms import decode
from sandbox.stripe.money import shown
from sandbox.stripe.store import Page, Store

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#e3e8ee, #2b3445); --soft: light-dark(#5b6678, #9aa7bd);
  --card: light-dark(#fff, #161d2b); --accent: #635bff; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; background: light-dark(#f6f8fb, #0d121c); }
main { max-width: 70rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; } p { color: var(--soft); margin: 0; }
.box { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8rem; }
th, td { padding: .5rem .8rem; border-bottom: 1px solid var(--line); white-space: nowrap; } tr:last-child td { border: 0; }
code { font: .85em ui-monospace, monospace; } .pill { border-radius: 99px; padding: .1rem .6rem; font-size: .8rem; font-weight: 600; }
.good { background: #1a9f5c22; color: light-dark(#0a6b3b, #5fd69a); } .bad { background: #df1b4122; color: light-dark(#a8102f, #ff8ba0); }
.wait { background: #f5a62322; color: light-dark(#8a5a00, #f7c667); }
form { padding: 1.2rem; display: grid; gap: .6rem; } label { display: flex; gap: .6rem; align-items: baseline; }
.pay { max-width: 26rem; margin: 8vh auto 0; } .pay .box { padding: 1.6rem; box-shadow: 0 8px 30px #0000000f; } .pay form { padding: 0; }
.sum { font-size: 2.2rem; font-weight: 650; letter-spacing: -.02em; color: light-dark(#1a2233, #f2f5fa); margin: .2rem 0 1.2rem; }
.pay ul { list-style: none; margin: 0 0 1.2rem; padding: .8rem 0; border: solid var(--line); border-width: 1px 0; }
.pay li { display: flex; justify-content: space-between; gap: 1rem; } .pay label { flex-wrap: wrap; padding: .45rem .6rem; border: 1px solid var(--line); border-radius: 8px; cursor: pointer; }
.pay label:has(:checked) { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); } .pay label span { color: var(--soft); margin-left: auto; font-size: .85rem; }
.pay summary { cursor: pointer; color: var(--soft); margin: .2rem 0 .6rem; } details div { display: grid; gap: .6rem; }
.alert { background: #df1b4122; color: light-dark(#a8102f, #ff8ba0); border-radius: 8px; padding: .6rem .8rem; margin-bottom: 1rem; }
.note { text-align: center; font-size: .8rem; margin-top: 1rem; } .back { color: var(--accent); text-decoration: none; }
button { font: inherit; font-weight: 600; padding: .6rem 1.2rem; border: 0; border-radius: 8px; background: var(--accent); color: #fff; cursor: pointer; }
"""  # noqa: E501
_GOOD = {"succeeded", "200", "complete"}
_BAD = {"failed", "canceled", "expired", "—"}
_SHOWN = 25


def routes(store: Store, control: Control) -> list[Route]:
    """Both pages."""

    async def overview(request: Request) -> Response:
        del request
        return _page("Stripe sandbox", _overview(store))

    return [
        Route("/", overview, methods=["GET"]),
        Route("/c/pay/{id}", _hosted(store, control), methods=["GET", "POST"], name="pay"),
    ]


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return HTMLResponse(f'<!doctype html><html lang="en">{head}<style>{_STYLE}</style><main>{body}</main>', status)


def _overview(store: Store) -> str:
    intents, _ = store.page("payment_intent", Page(_SHOWN))
    charges, _ = store.page("charge", Page(_SHOWN))
    sent = outbox.deliveries(store, event=None, intent=None, limit=_SHOWN)
    return "".join(
        [
            "<h1>Stripe sandbox</h1><p>No money moves here. The newest come first.</p>",
            _table(
                "Payment intents",
                ("Intent", "Order", "Amount", "Status"),
                (
                    (item["id"], item["metadata"].get("order_id", ""), _money(item), _pill(item["status"]))
                    for item in intents
                ),
            ),
            _table(
                "Charges",
                ("Charge", "Amount", "Refunded", "Status"),
                ((item["id"], _money(item), str(item["amount_refunded"]), _pill(item["status"])) for item in charges),
            ),
            _table(
                "Webhook deliveries",
                ("At", "Event", "Type", "Attempt", "Fault", "Status"),
                (
                    (
                        item["at"],
                        item["event_id"],
                        item["type"],
                        str(item["attempt"]),
                        item["fault"] or "",
                        _pill(item["status"]),
                    )
                    for item in sent
                ),
            ),
        ]
    )


def _pill(status: Any) -> str:
    text = "—" if status is None else str(status)
    kind = "good" if text in _GOOD else "bad" if text in _BAD or text[:1] in {"4", "5"} else "wait"
    return f'\0<span class="pill {kind}">{escape(text)}</span>'


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    shown = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    if not shown:
        return f"<h2>{title}</h2><p>None yet.</p>"
    names = "".join(f"<th>{name}</th>" for name in head)
    return f'<h2>{title}</h2><div class="box"><table><tr>{names}</tr>{shown}</table></div>'


def _cell(cell: str) -> str:
    return cell[1:] if cell.startswith("\0") else f"<code>{escape(cell)}</code>"


def _money(item: Json) -> str:
    return f"{item['amount']} {item['currency']}"


def _lines(store: Store, session: Json) -> list[Json]:
    note: Json = json.loads(store.note(session["id"]) or "{}")
    return list((note.get("line_items") or {}).get("data", []))


def _hosted(store: Store, control: Control) -> Callable[[Request], Any]:
    async def hosted(request: Request) -> Response:
        session = store.get("checkout.session", request.path_params["id"])
        if session is None:
            return _page("Not found", "<h1>There is no such checkout session.</h1>", 404)
        if request.method == "GET":
            return _page("Pay", _form(session, lines=_lines(store, session)))
        try:
            form = decode((await request.body()).decode(errors="replace"))
            control.perform(pay_session, session["id"], {"card": form.text("card")})
        except ApiError as error:
            session = store.get("checkout.session", session["id"]) or session
            return _page("Pay", _form(session, error.message, _lines(store, session)), error.status)
        return RedirectResponse(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]), 303)

    return hosted


def _form(session: Json, message: str = "", lines: Sequence[Json] = ()) -> str:
    amount = shown(session["amount_total"], session["currency"])
    items = "".join(
        f"<li><span>{escape(str(line['description']))} &times; {line['quantity']}</span>"
        f"<span>{escape(shown(line['amount_total'], line['currency']))}</span></li>"
        for line in lines
    )
    said = f'<p class="alert" role="alert">{escape(message)}</p>' if message else ""
    back = f'<a class="back" href="{escape(session["cancel_url"] or session["success_url"])}">Back to the shop</a>'
    if session["status"] == "open":
        usual, *others = [_choice(card, checked=not index) for index, card in enumerate(cards.CARDS)]
        body = (
            f'<form method="post">{usual}<details{" open" if message else ""}><summary>Cards that behave otherwise'
            f"</summary><div>{''.join(others)}</div></details><button>Pay {escape(amount)}</button></form>"
        )
    else:
        body = f"<h2>This checkout is {escape(session['status'])}.</h2>"
    return (
        f'<div class="pay"><div class="box">{said}<p>To pay</p><div class="sum">{escape(amount)}</div>'
        f"{f'<ul>{items}</ul>' if items else ''}{body}</div>"
        f'<p class="note">A stand-in for Stripe: no money moves here. {back}</p></div>'
    )


def _choice(card: cards.TestCard, *, checked: bool) -> str:
    digits = " ".join(card.number[at : at + 4] for at in range(0, len(card.number), 4))
    return (
        f'<label><input type="radio" name="card" value="{card.number}"{" checked" if checked else ""}>'
        f"<code>{digits}</code><span>{escape(_what(card))}</span></label>"
    )


def _what(card: cards.TestCard) -> str:
    said = ["needs authentication"] if card.needs_authentication else []
    said.append(card.decline.decline_code or card.decline.code if card.decline else "succeeds")
    if card.refunds is not cards.RefundOutcome.SUCCEEDS:
        said.append(f"its refund: {card.refunds.value}")
    if card.disputed_as:
        said.append(f"then disputed as {card.disputed_as}")
    return ", ".join(said)
