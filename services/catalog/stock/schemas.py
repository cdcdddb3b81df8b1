"""What the gRPC edge accepts."""

from datetime import timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from reliability.errors import FieldError, ValidationFailed
from services.catalog.products.domain import Price
from services.catalog.stock.domain import HoldKey, Line

__all__ = ["CommitInput", "ExtendInput", "HoldInput", "HoldName", "parse"]

M = TypeVar("M", bound="HoldName")
Ttl = Annotated[int, Field(ge=1, le=7 * 24 * 3600)]
OptionalId = Annotated[UUID | None, BeforeValidator(lambda value: value or None)]


class PriceInput(BaseModel):
    """What one piece is being sold for."""

    model_config = ConfigDict(from_attributes=True)

    amount: int = Field(ge=0)
    currency: str = Field(pattern=r"^[A-Z]{3}$")


# A message that is not set is an empty one to whoever reads it.
OptionalPrice = Annotated[PriceInput | None, BeforeValidator(lambda money: money if money.ByteSize() else None)]


class LineInput(BaseModel):
    """Pieces of one variant."""

    model_config = ConfigDict(from_attributes=True)

    variant_id: UUID
    quantity: int = Field(ge=1, le=1000)
    price: OptionalPrice = None


def _one_line_per_variant(lines: list[LineInput]) -> list[LineInput]:
    if len({line.variant_id for line in lines}) != len(lines):
        message = "must name each variant once"
        raise ValueError(message)
    return lines


class HoldName(BaseModel):
    """Which hold."""

    model_config = ConfigDict(from_attributes=True)

    order_id: UUID
    attempt: int = Field(ge=1)

    @property
    def key(self) -> HoldKey:
        """As the core knows it."""
        return HoldKey(self.order_id, self.attempt)


class HoldInput(HoldName):
    """A hold to make."""

    lines: Annotated[list[LineInput], Field(min_length=1, max_length=100), AfterValidator(_one_line_per_variant)]
    ttl_seconds: Ttl

    def wanted(self) -> list[Line]:
        """As the core knows them."""
        return [Line(line.variant_id, line.quantity) for line in self.lines]

    def prices(self) -> dict[UUID, Price]:
        """What the variants are being sold for, of those that say so."""
        return {
            line.variant_id: Price(line.price.amount, line.price.currency)
            for line in self.lines
            if line.price is not None
        }

    @property
    def ttl(self) -> timedelta:
        """How long the hold shall last."""
        return timedelta(seconds=self.ttl_seconds)


class ExtendInput(HoldName):
    """A hold to extend."""

    ttl_seconds: Ttl

    @property
    def ttl(self) -> timedelta:
        """How long from now the hold shall last."""
        return timedelta(seconds=self.ttl_seconds)


class CommitInput(HoldName):
    """A hold to commit; an empty customer id is a guest's."""

    customer_id: OptionalId = None


def parse(model: type[M], message: Any) -> M:
    """A request message, checked. Raises `ValidationFailed` with a pointer for each bad field."""
    try:
        return model.model_validate(message)
    except ValidationError as error:
        raise ValidationFailed(
            [FieldError("".join(f"/{part}" for part in problem["loc"]), problem["msg"]) for problem in error.errors()]
        ) from None
