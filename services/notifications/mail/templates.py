"""The catalogue of templates, and how one becomes a mail."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import css_inline
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context
from markupsafe import Markup

from services.notifications.errors import UnknownTemplate
from services.notifications.mail import schemas, words
from services.notifications.mail.domain import Category, Rendered, Topic
from services.notifications.mail.plain_text import plain_text
from services.notifications.mail.schemas import Data
from services.notifications.schemas import checked

__all__ = ["SHOP", "Template", "Templates", "greet"]

SHOP: Final = "Holdfast Pet Care"
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_BECAUSE: Final[Mapping[Topic, str]] = {
    Topic.NEWS: f"You get this mail because you agreed to news from {SHOP}.",
    Topic.CART_REMINDERS: f"You get this mail because you agreed to news from {SHOP} and left a cart.",
    Topic.BACK_IN_STOCK: "You get this mail because you asked to be told.",
}


@dataclass(frozen=True, slots=True)
class Template:
    """A mail we know how to write: `templates/<name>.html.j2` and `.txt.j2`. `subject` is a template too.

    One with a `topic` needs consent and can be declined. One that is `critical` is never lost in silence: when
    it fails for good, staff are told.
    """

    name: str
    subject: str
    data: type[Data]
    topic: Topic | None = None
    critical: bool = False

    @property
    def category(self) -> Category:
        """Marketing is what can be declined."""
        return Category.MARKETING if self.topic else Category.TRANSACTIONAL


_CATALOGUE: Final = (
    Template(
        "order_confirmation", "Your order {{ order_number }} is confirmed", schemas.OrderConfirmation, critical=True
    ),
    Template("order_shipped", "Your order {{ order_number }} is on its way", schemas.OrderShipped),
    Template(
        "refund_issued",
        "Your refund of {{ amount | money }} for order {{ order_number }}",
        schemas.RefundIssued,
        critical=True,
    ),
    Template("email_verification", "Please confirm your mail address", schemas.TimedLink, critical=True),
    Template("account_exists", "You have an account already", schemas.AccountLink),
    Template("password_reset", "Choose a new password", schemas.TimedLink, critical=True),
    Template("staff_invitation", "You are invited to join the staff", schemas.TimedLink, critical=True),
    Template("password_changed", "Your password was changed", schemas.AccountNotice, critical=True),
    Template("session_ended", "We signed you out, to be safe", schemas.SessionEnded, critical=True),
    Template("email_change", "Please confirm your new mail address", schemas.EmailChange, critical=True),
    Template(
        "email_change_approval",
        "Please approve the new mail address of your account",
        schemas.EmailChange,
        critical=True,
    ),
    Template("email_changed", "Your mail address was changed", schemas.EmailChanged, critical=True),
    Template(
        "appointment_booked", "Your appointment on {{ starts_at | day }} is booked", schemas.Appointment, critical=True
    ),
    Template(
        "appointment_moved", "Your appointment is now on {{ starts_at | day }}", schemas.AppointmentMoved, critical=True
    ),
    Template(
        "appointment_reminder",
        "Your appointment on {{ starts_at | day }} at {{ starts_at | clock }}",
        schemas.AppointmentReminder,
    ),
    Template(
        "appointment_cancelled",
        "Your appointment on {{ starts_at | day }} is cancelled",
        schemas.AppointmentCancelled,
        critical=True,
    ),
    Template(
        "subscription_paid",
        "Your payment of {{ amount | money }} for {{ plan }}",
        schemas.SubscriptionPaid,
        critical=True,
    ),
    Template(
        "subscription_payment_failed",
        "Your payment for {{ plan }} did not go through",
        schemas.SubscriptionPaymentFailed,
        critical=True,
    ),
    Template(
        "subscription_ended", "Your subscription to {{ plan }} has ended", schemas.SubscriptionEnded, critical=True
    ),
    Template("abandoned_cart", "Your cart is still here", schemas.AbandonedCart, Topic.CART_REMINDERS),
    Template("back_in_stock", "{{ title }} is back", schemas.BackInStock, Topic.BACK_IN_STOCK),
    Template("confirm_subscription", "Shall we write to you?", schemas.TimedLink),
    Template("care_tips", "Small habits, healthy pets", Data, Topic.NEWS),
    Template("mail_failed", "Not delivered: {{ template }} to {{ recipient }}", schemas.MailFailed),
)


def greet(name: str) -> str:
    """The first line of a mail."""
    return f"Hello {name}," if name else "Hello,"


def _filter(write: Callable[[Any, Mapping[str, Any]], str]) -> Callable[[Context, Any], str]:
    """A filter of Jinja's that is told of the mail's locale and time zone."""

    @pass_context
    def written(context: Context, value: Any) -> str:
        return write(value, context.get_all())

    return written


class Templates:
    """Renders mails: HTML with its styles inlined, because mail clients drop style sheets, and plain text."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            undefined=StrictUndefined,
            autoescape=select_autoescape(["html.j2"], default_for_string=False),
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {name: _filter(write) for name, write in words.FILTERS.items()}
        self._environment.globals["shop"] = SHOP
        # Staff's HTML may name style sheets: nothing is fetched because a mail says so.
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False)
        self._catalogue = {template.name: template for template in _CATALOGUE}
        # By their text: Jinja keeps what it compiled from a file, but not from a string.
        self._subject = functools.cache(self._environment.from_string)

    @property
    def names(self) -> list[str]:
        """Every template there is."""
        return sorted(self._catalogue)

    def find(self, name: str) -> Template:
        """The template of that name; raises `UnknownTemplate`."""
        found = self._catalogue.get(name)
        if found is None:
            message = f"There is no template {name!r}; there are {', '.join(self.names)}."
            raise UnknownTemplate(message)
        return found

    def is_critical(self, name: str) -> bool:
        """Whether a mail of that template matters; one that is not ours any more does not."""
        found = self._catalogue.get(name)
        return found is not None and found.critical

    def render(
        self, template: Template, data: Mapping[str, Any], *, unsubscribe: str = "", attached: bool = False
    ) -> tuple[Data, Rendered]:
        """The data as the template understood it, and the mail; raises `ValidationFailed` for bad or missing data.

        `unsubscribe` is the address behind the link in the foot of a mail that can be declined; `attached` says that
        a calendar file comes with it.
        """
        known = checked(template.data, data, "/data")
        values = {name: getattr(known, name) for name in type(known).model_fields}
        subject = self._subject(template.subject).render(values)
        values |= {"subject": subject, "greeting": greet(known.customer_name or ""), "attached": attached}
        if template.topic:
            values |= {"because": _BECAUSE[template.topic], "unsubscribe": unsubscribe}
        return known, Rendered(subject, self._html(template.name, values), self._text(template.name, values))

    def campaign(
        self, subject: str, *, greeting: str, template: str | None, html: str | None, unsubscribe: str = ""
    ) -> Rendered:
        """A campaign's mail: staff's HTML in our frame, or a template about news.

        Raises `UnknownTemplate`, also for a template about anything else: it would say things that are not so.
        """
        values: dict[str, Any] = {"subject": subject, "greeting": greeting}
        values |= {"because": _BECAUSE[Topic.NEWS], "unsubscribe": unsubscribe}
        if html is not None:
            values |= {"body": Markup(html), "body_text": plain_text(html)}  # noqa: S704 - staff write it  # nosec B704
        elif self.find(template or "").topic is not Topic.NEWS:
            message = f"The template {template!r} is not for campaigns."
            raise UnknownTemplate(message)
        name = template or "campaign"
        return Rendered(subject, self._html(name, values), self._text(name, values))

    def _html(self, name: str, values: Mapping[str, Any]) -> str:
        return self._inliner.inline(self._environment.get_template(f"{name}.html.j2").render(values))

    def _text(self, name: str, values: Mapping[str, Any]) -> str:
        text = self._environment.get_template(f"{name}.txt.j2").render(values)
        return _BLANK_LINES.sub("\n\n", text).strip() + "\n"
