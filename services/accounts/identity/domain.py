"""What an account is and what its role lets it do."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

__all__ = ["Account", "Kind", "NewCustomer", "Permission", "Role", "Status", "permissions_of"]


class Kind(StrEnum):
    """Which side of the counter somebody stands on."""

    CUSTOMER = "customer"
    STAFF = "staff"


class Role(StrEnum):
    """What somebody is in the shop."""

    CUSTOMER = "customer"
    OWNER = "owner"
    MEMBER = "member"


class Status(StrEnum):
    """Whether an account may be used. An erased one is a tombstone without personal data."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    ERASED = "erased"


class Permission(StrEnum):
    """What staff routes ask for."""

    CATALOG = "catalog"
    ORDERS = "orders"
    REFUNDS = "refunds"
    CAMPAIGNS = "campaigns"
    CUSTOMERS = "customers"
    OPERATIONS = "operations"
    STAFF = "staff"


def permissions_of(role: Role, given: Iterable[Permission] = ()) -> frozenset[Permission]:
    """What a role may do; written into its tokens, so that every service can check by itself."""
    match role:
        case Role.CUSTOMER:
            return frozenset()
        case Role.OWNER:
            return frozenset(Permission)
        case Role.MEMBER:
            return frozenset(given)
        case _:
            assert_never(role)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody we know. Without a password hash there is no signing in by password."""

    id: str
    kind: Kind
    role: Role
    email: str
    name: str
    password_hash: str | None
    marketing_consent: bool
    status: Status
    changed_at: datetime
    created_at: datetime
    email_verified: bool
    permissions: frozenset[Permission]
    totp_secret: bytes | None = None

    @property
    def consents(self) -> bool:
        """Whether to write to them: they agreed, the address is theirs, and they are welcome."""
        return self.marketing_consent and self.email_verified and self.status is Status.ACTIVE


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """A customer to be."""

    email: str
    name: str
    marketing_consent: bool
