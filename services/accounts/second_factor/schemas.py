"""Bodies of the routes for second factors."""

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

__all__ = [
    "ConfirmFactor",
    "EnrolFactor",
    "FactorProposal",
    "OneTimeCode",
    "RecoveryCode",
    "RecoveryList",
    "RemoveFactor",
]

OneTimeCode = Annotated[str, Field(pattern=r"^[0-9]{6}$")]
RecoveryCode = Annotated[str, Field(pattern=r"^[A-Za-z2-7 -]{16,24}$")]


class EnrolFactor(BaseModel):
    """The password, once more: whoever found an open browser should not lock its owner out."""

    password: str = Field(min_length=1, max_length=1024)


class FactorProposal(BaseModel):
    """What an authenticator needs; `uri` is for a QR code. It counts once a code of it was given."""

    secret: str
    uri: str


class ConfirmFactor(BaseModel):
    """A code that the authenticator shows."""

    totp: OneTimeCode


class RecoveryList(BaseModel):
    """Each opens once instead of a code; they are shown this once."""

    recovery_codes: list[str]


class RemoveFactor(BaseModel):
    """A code of the authenticator, or a recovery code."""

    totp: OneTimeCode | None = None
    recovery_code: RecoveryCode | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.totp is None) == (self.recovery_code is None):
            raise ValueError("give exactly one of totp and recovery_code")
        return self
