"""What each mail says, and that nobody's name can say anything else."""

import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reliability.errors import ValidationFailed
from services.notifications.errors import UnknownTemplate
from services.notifications.mail.domain import Category, Rendered
from services.notifications.mail.templates import Templates

SNAPSHOTS = Path(__file__).with_name("snapshots")
ATTACK = '<script>alert(1)</script>"&'
TEMPLATES = Templates()


def money(amount: int, currency: str = "USD") -> dict[str, Any]:
    return {"amount": amount, "currency": currency}


ORDER = {
    "order_number": "HF-10042",
    "customer_name": "Ada Lovelace",
    "items": [
        {
            "title": "Salmon & Rice Kibble, 4 kg",
            "quantity": 2,
            "unit_price": money(3499),
            "line_total": money(6998),
        },
        {"title": "Reflective Harness", "quantity": 1, "unit_price": money(2450), "line_total": money(2450)},
    ],
    "subtotal": money(9448),
    "discount": money(945),
    "shipping": money(0),
    "tax": money(701),
    "total": money(9204),
    "shipping_address": {
        "name": "Ada Lovelace",
        "line1": "12 Garden Street",
        "line2": "Apt 3",
        "city": "Springfield",
        "postal_code": "62704",
        "region": "IL",
        "country": "US",
    },
}
REFUND = {"order_number": "HF-10042", "customer_name": "Ada", "amount": money(9204), "reason": "out_of_stock"}


def render(name: str, data: dict[str, Any]) -> Rendered:
    return TEMPLATES.render(TEMPLATES.find(name), data)[1]


def campaign() -> Rendered:
    body = "<h1>Autumn</h1><p>New <a href='https://shop.holdfast.example/coats'>coats</a>.</p>"
    return TEMPLATES.campaign("Autumn is here", greeting="Hello Ada,", template=None, html=body)


MAILS = {
    "order_confirmation": lambda: render("order_confirmation", ORDER),
    "refund_issued": lambda: render("refund_issued", REFUND),
    "care_tips": lambda: render("care_tips", {"customer_name": "Ada"}),
    "campaign": campaign,
}


@pytest.mark.parametrize("name", MAILS)
def test_each_mail_is_as_it_was_looked_at(name: str) -> None:
    """A change of wording or layout is seen in review: run with UPDATE_SNAPSHOTS=1 and look at the difference."""
    mail = MAILS[name]()
    for suffix, content in (("html", mail.html), ("txt", f"{mail.subject}\n\n{mail.text}")):
        file = SNAPSHOTS / f"{name}.{suffix}"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(content)
        assert content == file.read_text()


class _Shape(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "background"}]


def shape(html: str) -> _Shape:
    parser = _Shape()
    parser.feed(html)
    return parser


@pytest.mark.parametrize("name", ["order_confirmation", "refund_issued", "care_tips"])
def test_any_client_can_show_it(name: str) -> None:
    """No style sheet, no script, nothing fetched: the styles are on the elements."""
    html = MAILS[name]().html
    found = shape(html)
    assert not {"style", "script", "link", "img"} & set(found.tags)
    assert found.addresses == []
    assert html.startswith("<!DOCTYPE html>")
    assert html.count("style=") > 10


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("order_confirmation", ORDER | {"customer_name": ATTACK}),
        ("order_confirmation", ORDER | {"order_number": ATTACK}),
        ("order_confirmation", ORDER | {"items": [ORDER["items"][0] | {"title": ATTACK}]}),  # type: ignore[index]
        ("order_confirmation", ORDER | {"shipping_address": ORDER["shipping_address"] | {"line1": ATTACK}}),  # type: ignore[operator]
        ("refund_issued", REFUND | {"reason": ATTACK}),
        ("refund_issued", REFUND | {"customer_name": ATTACK}),
        ("care_tips", {"customer_name": ATTACK}),
    ],
)
def test_no_value_becomes_markup(name: str, data: dict[str, Any]) -> None:
    """`<script>` in a name is text in the HTML, wherever it stands, and itself in the plain text."""
    mail = render(name, data)
    assert "<script" not in mail.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in mail.html
    assert ATTACK in mail.text
    assert shape(mail.html).tags.count("script") == 0


def test_a_subject_in_a_campaign_is_escaped_too() -> None:
    """Staff's HTML is theirs; their subject is text."""
    mail = TEMPLATES.campaign(ATTACK, greeting="Hello,", template=None, html="<b>x</b>")
    assert "<script" not in mail.html
    assert mail.subject == ATTACK


def test_a_campaign_fetches_nothing_while_it_is_rendered(tmp_path: Path) -> None:
    """A style sheet named in staff's HTML is not loaded: rendering needs no network and reads no file."""
    sheet = tmp_path / "sheet.css"
    sheet.write_text("p { color: #123456 }")
    html = f'<link rel="stylesheet" href="{sheet.as_uri()}"><p>Hello</p>'
    assert "#123456" not in TEMPLATES.campaign("s", greeting="Hello,", template=None, html=html).html


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [(1299, "USD", "$12.99"), (123456789, "EUR", "€1,234,567.89"), (1299, "JPY", "¥1,299"), (1299, "KWD", "1.299")],
)
def test_money_is_written_as_its_currency_is(amount: int, currency: str, shown: str) -> None:
    """Minor units are hundredths, thousandths or none, as the currency has them."""
    assert shown in render("refund_issued", REFUND | {"amount": money(amount, currency)}).text


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({key: value for key, value in ORDER.items() if key != "total"}, "/data/total"),
        (ORDER | {"items": []}, "/data/items"),
        (ORDER | {"items": [{"title": "x"}]}, "/data/items/0/quantity"),
        (ORDER | {"total": money(-1)}, "/data/total/amount"),
        (ORDER | {"total": {"amount": 12.5, "currency": "USD"}}, "/data/total/amount"),
        (ORDER | {"customer_name": "x" * 201}, "/data/customer_name"),
    ],
)
def test_bad_data_is_named(data: dict[str, Any], pointer: str) -> None:
    """A missing or impossible field is refused with a pointer to it."""
    with pytest.raises(ValidationFailed) as caught:
        render("order_confirmation", data)
    assert pointer in {error["pointer"] for error in caught.value.extensions["errors"]}


def test_a_newer_caller_is_understood() -> None:
    """Fields a template does not know yet are ignored, and not stored."""
    data, _ = TEMPLATES.render(TEMPLATES.find("order_confirmation"), ORDER | {"gift_wrap": True})
    assert "gift_wrap" not in data.model_dump()


def test_stored_data_renders_to_the_same_mail() -> None:
    """What is kept of the data is enough to write the mail again."""
    for name, given in (("order_confirmation", ORDER), ("refund_issued", REFUND)):
        data, first = TEMPLATES.render(TEMPLATES.find(name), given)
        assert render(name, data.model_dump(mode="json")) == first


@pytest.mark.parametrize("name", ["no_such", "", "../secrets", "_layout", "campaign"])
def test_only_the_catalogue_has_templates(name: str) -> None:
    """A name is looked up, never turned into a path."""
    with pytest.raises(UnknownTemplate):
        TEMPLATES.find(name)


def test_a_campaign_needs_a_marketing_template() -> None:
    """An order confirmation to everybody would say things that are not so."""
    assert TEMPLATES.find("order_confirmation").category is Category.TRANSACTIONAL
    with pytest.raises(UnknownTemplate, match="not for campaigns"):
        TEMPLATES.campaign("s", greeting="Hello,", template="order_confirmation", html=None)
