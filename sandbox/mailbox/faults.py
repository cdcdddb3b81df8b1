"""Faults on order: what the next mails run into."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Fault", "Faults", "Order"]


class Fault(StrEnum):
    """What can go wrong with a mail. Only `DROP_AFTER_DATA` and `SLOW` have stored the message when it does.

    Those two happen over SMTP and over Resend's API; `HTTP_...` only there, the others only over SMTP.
    """

    REJECT_421 = "reject_421"
    REJECT_450 = "reject_450"
    REJECT_550 = "reject_550"
    REJECT_DATA_451 = "reject_data_451"
    REJECT_DATA_554 = "reject_data_554"
    DROP_BEFORE_DATA = "drop_before_data"
    DROP_AFTER_DATA = "drop_after_data"
    SLOW = "slow"
    HTTP_403 = "http_403"
    HTTP_422 = "http_422"
    HTTP_429 = "http_429"
    HTTP_500 = "http_500"


class Order(BaseModel):
    """One order; `times` is how often it still happens, `to` the only recipient it happens to."""

    model_config = ConfigDict(extra="forbid")

    fault: Fault
    times: int = Field(default=1, ge=1)
    to: str | None = None
    seconds: float = Field(default=10.0, ge=0, le=600)


class Faults:
    """The orders that are open, oldest first."""

    def __init__(self) -> None:
        self._orders: list[Order] = []

    def add(self, order: Order) -> None:
        """Orders a fault."""
        self._orders.append(order)

    def open(self) -> list[Order]:
        """What is still to come."""
        return list(self._orders)

    def clear(self) -> None:
        """From now on all goes well."""
        self._orders.clear()

    def take(self, recipients: list[str], *kinds: Fault) -> Order | None:
        """The first order of these kinds that is meant for one of the recipients; it is one time fewer then."""
        addresses = {recipient.lower() for recipient in recipients}
        for order in self._orders:
            if order.fault in kinds and (order.to is None or order.to.lower() in addresses):
                order.times -= 1
                if not order.times:
                    self._orders.remove(order)
                return order
        return None
