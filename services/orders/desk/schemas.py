"""What the desk's requests may hold."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from pydantic import AnyUrl, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, UrlConstraints
from pydantic import ValidationError as Invalid

from reliability.asgi.fields import Moment
from reliability.errors import FieldError, ValidationFailed
from services.orders.checkout.schemas import OneLine
from services.orders.order.domain import OrderStatus
from services.orders.pages import PageQuery

__all__ = ["Cancel", "Fulfil", "Line", "MoneyIn", "OrderFilter", "Page", "Refund", "checked"]

M = TypeVar("M", bound=BaseModel)

# More than any order costs, and less than what PostgreSQL's bigint overflows at when a few are added up.
MOST: Final = 10**12

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), OneLine]
Https = Annotated[AnyUrl, UrlConstraints(max_length=2000, allowed_schemes=["https"]), PlainSerializer(str)]


class MoneyIn(BaseModel):
    """Money in a request, in minor units."""

    amount: int = Field(ge=1, le=MOST)
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class Page(PageQuery):
    """`limit` and `cursor`."""


class OrderFilter(Page):
    """Which orders; None does not narrow."""

    model_config = ConfigDict(extra="forbid")

    status: OrderStatus | None = None
    email: Annotated[str, Field(max_length=254)] | None = None
    order_number: Annotated[str, Field(max_length=40)] | None = None
    customer_id: UUID | None = None
    since: Moment | None = None
    until: Moment | None = None


class Refund(BaseModel):
    """Without `amount` all that is left."""

    amount: MoneyIn | None = None
    reason: Line


class Cancel(BaseModel):
    """Why, for the timeline."""

    reason: Line


class Fulfil(BaseModel):
    """Who carries it."""

    carrier: Line | None = None
    tracking_number: Line | None = None
    tracking_url: Https | None = None


def checked(model: type[M], values: Mapping[str, Any]) -> M:
    """`values` as a `model`. Raises `ValidationFailed` with a pointer to each bad field."""
    try:
        return model.model_validate(values)
    except Invalid as error:
        problems = [FieldError("".join(f"/{part}" for part in each["loc"]), each["msg"]) for each in error.errors()]
        raise ValidationFailed(problems) from None
