"""Coupons as staff make, change and end them. Code, kind and value never change: another offer is another coupon."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Self, TypeVar

import asyncpg
from pydantic import BaseModel, Field, StringConstraints, model_validator

from reliability import audit, idempotency
from reliability.asgi.fields import Moment
from reliability.errors import FieldError, NotFound, ValidationFailed
from reliability.ids import is_id
from reliability.postgres import Connection, Database
from services.orders.coupon import repository
from services.orders.coupon.domain import Coupon, CouponKind
from services.orders.errors import CouponExists, CouponInUse

__all__ = ["CouponChange", "CouponDesk", "CouponDraft"]

A = TypeVar("A")

_MOST = 10**12
_ALL = 10_000  # basis points

Amount = Annotated[int, Field(ge=0, le=_MOST)]
Times = Annotated[int, Field(ge=1, le=_MOST)]


class CouponDraft(BaseModel):
    """A new coupon: `value` in basis points of a percentage or minor units of an amount."""

    code: Annotated[
        str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{2,39}$")
    ]
    kind: CouponKind
    value: Annotated[int, Field(ge=1, le=_MOST)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    minimum: Amount = 0
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    total_limit: Times | None = None
    per_customer_limit: Times | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind is CouponKind.PERCENTAGE and self.value > _ALL:
            message = "a percentage is 10000 basis points at most"
            raise ValueError(message)
        return self


class CouponChange(BaseModel):
    """What is not given stays."""

    minimum: Amount | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    total_limit: Times | None = None
    per_customer_limit: Times | None = None
    active: bool | None = None


class CouponDesk:
    """Each write under the coupon's lock, with its audit row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def coupons(self, after: str | None, limit: int) -> list[Coupon]:
        """Newest first, from behind the coupon `after`; one more than `limit` when there are more."""
        async with self._database.connection() as connection:
            return await repository.listed(connection, after, limit + 1)

    async def create(self, draft: CouponDraft, staff_id: str, answer: Callable[[Coupon], A]) -> A:
        """Makes a coupon, once per key. Raises `CouponExists`, `ValidationFailed`."""
        try:
            async with self._database.transaction("create coupon") as connection:
                claim = await idempotency.claim(connection, staff_id)
                with _dates():
                    coupon = await repository.insert(connection, draft.model_dump())
                await audit.record(connection, staff_id, "coupon.created", coupon.id, code=coupon.code)
                answered = answer(coupon)
                await claim.store(connection, 200, answered)
        except asyncpg.UniqueViolationError:
            raise CouponExists(f"There is a coupon {draft.code} already.") from None
        return answered

    async def change(self, coupon_id: str, change: CouponChange, staff_id: str, answer: Callable[[Coupon], A]) -> A:
        """Changes a coupon, for carts that are ordered from now on. Raises `NotFound`, `ValidationFailed`."""
        given = change.model_dump(exclude_none=True)
        async with self._database.transaction("change coupon") as connection:
            claim = await idempotency.claim(connection, staff_id)
            found = await _locked(connection, coupon_id)
            if change.total_limit is not None and change.total_limit < found.redeemed:
                raise ValidationFailed([FieldError("/total_limit", f"it has been used {found.redeemed} times")])
            with _dates():
                coupon = await repository.change(connection, found.id, given)
            detail = change.model_dump(mode="json", exclude_none=True)
            await audit.record(connection, staff_id, "coupon.changed", coupon.id, **detail)
            answered = answer(coupon)
            await claim.store(connection, 200, answered)
        return answered

    async def delete(self, coupon_id: str, staff_id: str) -> None:
        """Deletes a coupon nobody has used; carts that hold it are without. Raises `NotFound`, `CouponInUse`."""
        async with self._database.transaction("delete coupon") as connection:
            coupon = await _locked(connection, coupon_id)
            if await repository.was_used(connection, coupon.id):
                raise CouponInUse(f"Orders were placed with {coupon.code}; switch it off instead.")
            await repository.delete(connection, coupon.id)
            await audit.record(connection, staff_id, "coupon.deleted", coupon.id, code=coupon.code)


@contextmanager
def _dates() -> Iterator[None]:
    """Turns the constraint's refusal of a coupon that ends before it starts into ours."""
    try:
        yield
    except asyncpg.CheckViolationError:
        raise ValidationFailed([FieldError("/ends_at", "must be after starts_at")]) from None


async def _locked(connection: Connection, coupon_id: str) -> Coupon:
    coupon = await repository.lock(connection, coupon_id) if is_id(coupon_id) else None
    if coupon is None:
        raise NotFound("There is no such coupon.")
    return coupon
