"""Bodies of the address routes."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from services.accounts.fields import Line

__all__ = ["AddressBook", "AddressView", "ChangeAddress", "NewAddress"]


def _upper(value: str) -> str:
    return value.upper()


Country = Annotated[str, Field(pattern=r"^[A-Za-z]{2}$"), AfterValidator(_upper)]
"""ISO 3166-1 alpha-2."""

_NEEDED = ("name", "line1", "city", "postal_code", "country")


class NewAddress(BaseModel):
    """Where a parcel goes."""

    name: Line
    line1: Line
    line2: Line | None = None
    city: Line
    postal_code: Line
    region: Line | None = None
    country: Country
    phone: Annotated[str, Field(pattern=r"^\+?[0-9 ()/.-]{3,30}$")] | None = None
    is_default: bool = False


class ChangeAddress(BaseModel):
    """What is left out stays; what need not be there is taken away by null."""

    name: Line | None = None
    line1: Line | None = None
    line2: Line | None = None
    city: Line | None = None
    postal_code: Line | None = None
    region: Line | None = None
    country: Country | None = None
    phone: Annotated[str, Field(pattern=r"^\+?[0-9 ()/.-]{3,30}$")] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if missing := [name for name in _NEEDED if name in self.model_fields_set and getattr(self, name) is None]:
            raise ValueError(f"{', '.join(missing)} cannot be taken away")
        return self


class AddressView(BaseModel):
    """An address in the book."""

    id: str
    name: str
    line1: str
    line2: str | None
    city: str
    postal_code: str
    region: str | None
    country: str
    phone: str | None
    is_default: bool


class AddressBook(BaseModel):
    """All of it: the default first, then the newest."""

    items: list[AddressView]
    next_cursor: str | None = None
