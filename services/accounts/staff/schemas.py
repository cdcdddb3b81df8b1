"""What comes in about staff."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from services.accounts.fields import Email, Line
from services.accounts.identity.domain import Permission, Role

__all__ = ["Invitation", "StaffChange"]

StaffRole = Literal[Role.OWNER, Role.MEMBER]


class Invitation(BaseModel):
    """Somebody to become staff."""

    email: Email
    name: Line
    role: StaffRole
    permissions: frozenset[Permission] = frozenset()
    staff_id: str = Field(min_length=1)

    @model_validator(mode="after")
    def _members_may_something(self) -> Self:
        if (self.role is Role.MEMBER) != bool(self.permissions):
            raise ValueError("a member has one permission or more; an owner has them all and is given none")
        return self


class StaffChange(BaseModel):
    """What is left out stays."""

    role: StaffRole | None = None
    permissions: frozenset[Permission] = frozenset()
    status: Literal["active", "suspended"] | None = None
    reset_second_factor: bool = False

    @model_validator(mode="after")
    def _owners_have_them_all(self) -> Self:
        if self.role is Role.OWNER and self.permissions:
            raise ValueError("an owner has every permission and is given none")
        return self
