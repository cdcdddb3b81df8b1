"""The catalogue of templates, and how one becomes a mail."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import css_inline
from babel.numbers import format_currency, get_currency_precision
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from services.notifications.errors import UnknownTemplate
from services.notifications.mail.domain import Category, Rendered
from services.notifications.mail.plain_text import plain_text
from services.notifications.mail.schemas import Data, Money, OrderConfirmation, RefundIssued
from services.notifications.schemas import checked

__all__ = ["SHOP", "Template", "Templates", "greet"]

SHOP: Final = "Holdfast Pet Care"
_LOCALE: Final = "en_US"
_BLANK_LINES: Final = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class Template:
    """A mail we know how to write: `templates/<name>.html.j2` and `.txt.j2`. `subject` is a template too."""

    name: str
    category: Category
    subject: str
    data: type[Data]


_CATALOGUE: Final = (
    Template(
        "order_confirmation",
        Category.TRANSACTIONAL,
        "Your order {{ order_number }} is confirmed",
        OrderConfirmation,
    ),
    Template(
        "refund_issued",
        Category.TRANSACTIONAL,
        "Your refund of {{ amount | money }} for order {{ order_number }}",
        RefundIssued,
    ),
    Template("care_tips", Category.MARKETING, "Small habits, healthy pets", Data),
)


def _money(value: Money) -> str:
    """`12.99` in the words of the locale: the currency decides how many digits are minor units."""
    amount = Decimal(value.amount).scaleb(-get_currency_precision(value.currency))
    return format_currency(amount, value.currency, locale=_LOCALE)


def greet(name: str) -> str:
    """The first line of a mail."""
    return f"Hello {name}," if name else "Hello,"


class Templates:
    """Renders mails: HTML with its styles inlined, because mail clients drop style sheets, and plain text."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            undefined=StrictUndefined,
            autoescape=select_autoescape(["html.j2"], default_for_string=False),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["money"] = _money
        self._environment.globals["shop"] = SHOP
        # Staff's HTML may name style sheets: nothing is fetched because a mail says so.
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False)
        self._catalogue = {template.name: template for template in _CATALOGUE}

    def find(self, name: str) -> Template:
        """The template of that name; raises `UnknownTemplate`."""
        found = self._catalogue.get(name)
        if found is None:
            message = f"There is no template {name!r}; there are {', '.join(sorted(self._catalogue))}."
            raise UnknownTemplate(message)
        return found

    def render(self, template: Template, data: Mapping[str, Any]) -> tuple[Data, Rendered]:
        """The data as the template understood it, and the mail; raises `ValidationFailed` for bad or missing data."""
        known = checked(template.data, data, "/data")
        values = {name: getattr(known, name) for name in type(known).model_fields}
        subject = self._environment.from_string(template.subject).render(values)
        values |= {"subject": subject, "greeting": greet(known.customer_name or "")}
        return known, Rendered(subject, self._html(template.name, values), self._text(template.name, values))

    def campaign(self, subject: str, *, greeting: str, template: str | None, html: str | None) -> Rendered:
        """A campaign's mail: staff's HTML in our frame, or a marketing template.

        Raises `UnknownTemplate`, also for a template that is not marketing: it would say things that are not so.
        """
        values: dict[str, Any] = {"subject": subject, "greeting": greeting}
        if html is not None:
            values |= {"body": Markup(html), "body_text": plain_text(html)}  # noqa: S704 - staff write it
        elif self.find(template or "").category is not Category.MARKETING:
            message = f"The template {template!r} is not for campaigns."
            raise UnknownTemplate(message)
        name = template or "campaign"
        return Rendered(subject, self._html(name, values), self._text(name, values))

    def _html(self, name: str, values: Mapping[str, Any]) -> str:
        return self._inliner.inline(self._environment.get_template(f"{name}.html.j2").render(values))

    def _text(self, name: str, values: Mapping[str, Any]) -> str:
        text = self._environment.get_template(f"{name}.txt.j2").render(values)
        return _BLANK_LINES.sub("\n\n", text).strip() + "\n"
