"""Changing who works here. Every decision is made with the whole staff locked: they are few, and it is rare."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from reliability import audit, idempotency
from reliability.crash_points import crash_point
from reliability.errors import FieldError, PermissionDenied, ValidationFailed
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from services.accounts.email_change.errors import EmailTaken
from services.accounts.identity import repository as accounts
from services.accounts.identity.domain import Account, Permission, Role, Status, permissions_of
from services.accounts.identity.service import forget
from services.accounts.mail_tokens import repository as links
from services.accounts.mail_tokens.domain import Purpose
from services.accounts.mail_tokens.service import queue_link
from services.accounts.profile import repository as profiles
from services.accounts.revocation.service import revoke
from services.accounts.second_factor import repository as second_factors
from services.accounts.session.domain import EndReason
from services.accounts.session.service import end_sessions
from services.accounts.staff import repository
from services.accounts.staff.domain import Standing, has_owner, may_act, may_grant, standing
from services.accounts.staff.errors import BeyondYourPermissions, LastOwner, NoSuchStaff
from services.accounts.staff.schemas import Invitation, StaffChange

__all__ = ["StaffService"]

A = TypeVar("A")

_INVITATION = "staff_invitation"

_log = get_logger(__name__)


class StaffService:
    """The use cases of staff. What whoever asks may do is read again here: a token may be older than a suspension."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def listed(self) -> list[Account]:
        """Everybody on the staff."""
        async with self._database.connection() as connection:
            return await repository.listed(connection)

    async def invite(self, asked: Invitation, answer: Callable[[str], A]) -> A:
        """Adds a member and has a link sent, once per key; the id as the edge answers it.

        Raises `PermissionDenied`, `BeyondYourPermissions`, `EmailTaken`.
        """
        async with self._database.transaction("invite staff") as connection:
            claim = await idempotency.claim(connection, asked.staff_id)
            team = await repository.team(connection)
            if not may_grant(_acting(team, asked.staff_id), asked.role, asked.permissions):
                raise BeyondYourPermissions
            member_id = await repository.add(connection, asked.email, asked.name, asked.role, asked.permissions)
            if member_id is None:
                member_id = await self._invite_again(connection, team, asked)
            await queue_link(connection, member_id, Purpose.INVITATION, _INVITATION, asked.email)
            detail = {"role": asked.role, "permissions": sorted(asked.permissions)}
            await audit.record(connection, asked.staff_id, "staff.invited", member_id, **detail)
            answered = answer(member_id)
            await claim.store(connection, 200, answered)
            crash_point("invitation.not_committed")
        _log.info("staff_invited", account=member_id, role=asked.role)
        return answered

    async def change(self, member_id: str, asked: StaffChange, staff_id: str) -> Standing:
        """Changes what is given and takes the member's tokens back; how they stand then.

        Raises `NoSuchStaff`, `PermissionDenied`, `BeyondYourPermissions`, `LastOwner`.
        """
        async with self._database.transaction("change staff") as connection:
            team = await repository.team(connection)
            before = _target(team, member_id, staff_id)
            after = _changed(before, asked)
            if not may_grant(_acting(team, staff_id), after.role, after.permissions):
                raise BeyondYourPermissions
            _keep_an_owner({**team, member_id: after})
            if (before.role, before.permissions) != (after.role, after.permissions):
                await self._regrade(connection, after, staff_id)
            if before.status is not after.status:
                await self._set_status(connection, after, staff_id)
            if asked.reset_second_factor and before.totp_secret is not None:
                await second_factors.remove(connection, member_id)
                await audit.record(connection, staff_id, "staff.second_factor_reset", member_id)
        return standing(after)

    async def remove(self, member_id: str, staff_id: str) -> None:
        """Leaves a tombstone of a member, which the audit log goes on naming; their address is free.

        Raises `NoSuchStaff`, `PermissionDenied`, `BeyondYourPermissions`, `LastOwner`.
        """
        async with self._database.transaction("remove staff") as connection:
            team = await repository.team(connection)
            member = _target(team, member_id, staff_id)
            _keep_an_owner({key: member for key, member in team.items() if key != member_id})
            await end_sessions(connection, member_id, EndReason.ERASED)
            await revoke(connection, accounts=[member_id])
            await forget(connection, member)
            await profiles.erase(connection, member_id)
            await audit.record(connection, staff_id, "staff.removed", member_id)
            crash_point("removal.not_committed")
        _log.info("staff_removed", account=member_id)

    async def _invite_again(self, connection: Connection, team: Mapping[str, Account], asked: Invitation) -> str:
        known = await accounts.by_email(connection, asked.email)
        member = team.get(known.id) if known is not None else None
        if member is None or standing(member) is not Standing.INVITED:
            raise EmailTaken
        if not may_grant(team[asked.staff_id], member.role, member.permissions):
            raise BeyondYourPermissions
        await links.void(connection, member.id, Purpose.INVITATION)
        await repository.change(connection, member.id, asked.role, asked.permissions)
        return member.id

    async def _regrade(self, connection: Connection, after: Account, staff_id: str) -> None:
        given = after.permissions if after.role is Role.MEMBER else frozenset[Permission]()
        await repository.change(connection, after.id, after.role, given)
        # Their sessions go on; the next token says what they may do now.
        await revoke(connection, accounts=[after.id])
        detail = {"role": after.role, "permissions": sorted(given)}
        await audit.record(connection, staff_id, "staff.changed", after.id, **detail)

    async def _set_status(self, connection: Connection, after: Account, staff_id: str) -> None:
        await accounts.set_status(connection, after.id, after.status)
        if after.status is Status.SUSPENDED:
            await end_sessions(connection, after.id, EndReason.SUSPENDED)
            await revoke(connection, accounts=[after.id])
            await links.void(connection, after.id, Purpose.INVITATION, Purpose.RESET_PASSWORD)
        action = "staff.suspended" if after.status is Status.SUSPENDED else "staff.reinstated"
        await audit.record(connection, staff_id, action, after.id)


def _acting(team: Mapping[str, Account], staff_id: str) -> Account:
    actor = team.get(staff_id)
    if actor is None or not may_act(actor):
        raise PermissionDenied
    return actor


def _target(team: Mapping[str, Account], member_id: str, staff_id: str) -> Account:
    actor, member = _acting(team, staff_id), team.get(member_id)
    if member is None:
        raise NoSuchStaff
    if not may_grant(actor, member.role, member.permissions):
        raise BeyondYourPermissions
    return member


def _changed(member: Account, asked: StaffChange) -> Account:
    role = asked.role or member.role
    if role is Role.MEMBER and member.role is Role.OWNER and not asked.permissions:
        raise ValidationFailed([FieldError("/permissions", "say what an owner who becomes a member may do")])
    permissions = permissions_of(role, asked.permissions or member.permissions)
    status = Status(asked.status) if asked.status else member.status
    return replace(member, role=role, permissions=permissions, status=status)


def _keep_an_owner(team: Mapping[str, Account]) -> None:
    if not has_owner(team.values()):
        raise LastOwner
