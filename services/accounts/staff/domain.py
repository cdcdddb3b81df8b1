"""Rules about staff."""

from collections.abc import Collection, Iterable
from enum import StrEnum

from services.accounts.identity.domain import Account, Permission, Role, Status

__all__ = ["Standing", "has_owner", "may_act", "may_grant", "standing"]


class Standing(StrEnum):
    """How somebody stands with the shop. Whoever is invited has not chosen a password yet."""

    INVITED = "invited"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REMOVED = "removed"


def standing(member: Account) -> Standing:
    """Where a member stands."""
    if member.status is Status.SUSPENDED:
        return Standing.SUSPENDED
    if member.status is Status.ERASED:
        return Standing.REMOVED
    return Standing.ACTIVE if member.email_verified else Standing.INVITED


def may_act(member: Account | None) -> bool:
    """Whether somebody may change staff at all, now: their token may be older than what became of them."""
    return member is not None and member.status is Status.ACTIVE and Permission.STAFF in member.permissions


def may_grant(actor: Account, role: Role, permissions: Collection[Permission]) -> bool:
    """Whether `actor` may make somebody that, or touch somebody who is."""
    return actor.role is Role.OWNER or (role is not Role.OWNER and set(permissions) <= actor.permissions)


def has_owner(team: Iterable[Account]) -> bool:
    """Whether somebody is left who may do everything and can sign in."""
    return any(member.role is Role.OWNER and standing(member) is Standing.ACTIVE for member in team)
