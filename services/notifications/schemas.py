"""What a request may hold, and the words both edges check it with."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from reliability.errors import FieldError, ValidationFailed

__all__ = [
    "Address",
    "Amount",
    "AudienceFilter",
    "CampaignChange",
    "CampaignDraft",
    "CustomerChange",
    "CustomerErasure",
    "EmailPage",
    "Line",
    "MailRequest",
    "MailTo",
    "OrderPaid",
    "OrderRefund",
    "Page",
    "UndeliveredPage",
    "check_address",
    "check_line",
    "checked",
]

M = TypeVar("M", bound=BaseModel)

_LINE_END = re.compile(r"\r\n|\r|\n")
_MAX_HTML = 512 * 1024
_MAX_CALENDAR = 64 * 1024


def check_line(value: str) -> str:
    """One line of text: no control character, so nothing that could end a mail header and begin another."""
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in value):
        message = "must be one line without control characters"
        raise ValueError(message)
    return value


def check_address(value: str) -> str:
    """A mail address in ASCII form; nobody is asked over the network whether it exists."""
    try:
        found = validate_email(value, check_deliverability=False, allow_smtputf8=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return found.ascii_email or found.normalized


def _check_html(value: str) -> str:
    if "\0" in value:
        message = "must not contain the NUL character"
        raise ValueError(message)
    return value


def _check_calendar(value: str) -> str:
    """An iCalendar file with the line ends RFC 5545 wants; one object from its first line to its last."""
    lines = _LINE_END.split(value.strip()) if value else []
    if value and (lines[0] != "BEGIN:VCALENDAR" or lines[-1] != "END:VCALENDAR" or "\0" in value):
        message = "must be an iCalendar file, from BEGIN:VCALENDAR to END:VCALENDAR"
        raise ValueError(message)
    return "".join(f"{line}\r\n" for line in lines)


Line = Annotated[str, AfterValidator(check_line), Field(max_length=200)]
Address = Annotated[str, AfterValidator(check_address), Field(max_length=254)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True)


class MailRequest(_Request):
    """`SendEmail`, its data not yet compared with the template."""

    idempotency_key: str = Field(pattern=r"^[\x21-\x7e]{1,255}$")
    to: Address
    template: str = Field(max_length=64)
    data: dict[str, Any]
    calendar_ics: Annotated[str, AfterValidator(_check_calendar), Field(max_length=_MAX_CALENDAR)] = ""


class CustomerChange(_Request):
    """`RecordCustomerChanged`."""

    customer_id: UUID
    email: Address
    name: Line
    marketing_consent: bool
    changed_at: datetime


class CustomerErasure(_Request):
    """`RecordCustomerErased`."""

    customer_id: UUID
    email: Address


class Amount(_Request):
    """An amount in integer minor units."""

    amount: int = Field(ge=0, le=10**15)
    currency: str = Field(pattern=r"^[A-Z]{3}$")


class OrderPaid(_Request):
    """`RecordOrderPaid`, its confirmation not yet compared with the template."""

    order_id: UUID
    customer_id: UUID | None = None
    email: Address
    total: Amount
    product_ids: list[Line] = Field(max_length=500)
    paid_at: datetime
    confirmation: dict[str, Any] | None = None


class OrderRefund(_Request):
    """`RecordOrderRefunded`."""

    order_id: UUID
    refunded: Amount
    known: int = Field(ge=1)


class AudienceFilter(_Request):
    """Who gets a campaign: everybody, or those whom every given filter lets through."""

    all: bool = False
    bought_product_ids: list[Line] = Field(default=[], max_length=100)
    spent_over: Amount | None = None
    inactive_days: int | None = Field(default=None, ge=1, le=3650)

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        filtered = bool(self.bought_product_ids) or self.spent_over is not None or self.inactive_days is not None
        if self.all == filtered:
            raise ValueError("give all, or at least one of bought_product_ids, spent_over, inactive_days")
        return self


Html = Annotated[str, AfterValidator(_check_html), Field(min_length=1, max_length=_MAX_HTML)]
TemplateName = Annotated[str, Field(min_length=1, max_length=64)]


class CampaignDraft(_Request):
    """`CreateCampaign`: a body is either a template's name or HTML."""

    name: Line = Field(min_length=1)
    subject: Line = Field(min_length=1)
    template: TemplateName | None = None
    html: Html | None = None
    audience: AudienceFilter
    staff_id: Line = Field(min_length=1)


class CampaignChange(_Request):
    """`UpdateCampaign`: what is not given stays."""

    name: Annotated[Line, Field(min_length=1)] | None = None
    subject: Annotated[Line, Field(min_length=1)] | None = None
    template: TemplateName | None = None
    html: Html | None = None
    audience: AudienceFilter | None = None


class MailTo(_Request):
    """Where a test goes."""

    to: Address


class Page(_Request):
    """Which part of a list."""

    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, max_length=64)


class EmailPage(Page):
    """Which mails."""

    state: Literal["queued", "sending", "sent", "retrying", "failed", "unknown", "suppressed"] | None = None
    to: Address | None = None


class UndeliveredPage(Page):
    """Which recipients."""

    state: Literal["failed", "unknown"] | None = None


def checked(model: type[M], values: Mapping[str, Any], prefix: str = "") -> M:
    """`values` as a `model`; raises `ValidationFailed` with a pointer to each bad field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValidationFailed(
            [
                FieldError(prefix + "".join(f"/{part}" for part in problem["loc"]), problem["msg"])
                for problem in error.errors()
            ]
        ) from None
