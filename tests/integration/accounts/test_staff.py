"""Who works here: invited by mail, trusted with as much as the inviter has, and out within seconds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from holdfast.accounts.v1 import accounts_pb2 as pb
from holdfast.accounts.v1 import accounts_pb2_grpc
from reliability import rpc
from reliability.errors import Conflict, Problem
from reliability.ids import new_id
from reliability.runtime import Application
from services.accounts.identity.domain import Permission
from tests.integration.accounts.conftest import OWNER, Accounts

Connect = Callable[[str], grpc.aio.Channel]
JO, SAM = "jo@holdfast.example", "sam@holdfast.example"
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
WORDS = "seven quiet hedgehogs at noon"


class Team:
    """The staff RPCs, as admin calls them."""

    def __init__(self, accounts: Accounts, stub: "accounts_pb2_grpc.AccountsServiceAsyncStub") -> None:
        self.accounts = accounts
        self._stub = stub

    async def owner(self) -> str:
        return str(await self.accounts.value("SELECT id::text FROM accounts WHERE email = $1", OWNER))

    async def invite(
        self, by: str, email: str = JO, role: str = "member", permissions: tuple[str, ...] = ("orders",), key: str = ""
    ) -> str:
        request = pb.InviteStaffRequest(email=email, name="Jo", role=role, permissions=permissions, staff_id=by)
        step = "accounts.InviteStaff"
        answer = await rpc.invoke(self._stub.InviteStaff, request, step=step, attempts=1, key=key or None)
        return answer.member_id

    async def join(self, by: str, email: str = JO, role: str = "member", permissions: tuple[str, ...] = ()) -> str:
        """Invites somebody who accepts."""
        member_id = await self.invite(by, email, role, permissions)
        await self.accounts.work()
        assert (await self.accept(email)).status_code == 204
        return member_id

    async def accept(self, email: str) -> Any:
        token = self.accounts.token("staff_invitation", to=email)
        return await self.accounts.http.post("/api/auth/password/reset", json={"token": token, "password": WORDS})

    async def change(self, member_id: str, by: str, **fields: Any) -> str:
        request = pb.UpdateStaffRequest(member_id=member_id, staff_id=by, **fields)
        return (await rpc.invoke(self._stub.UpdateStaff, request, step="accounts.UpdateStaff", attempts=1)).status

    async def remove(self, member_id: str, by: str) -> str:
        request = pb.RemoveStaffRequest(member_id=member_id, staff_id=by)
        return (await rpc.invoke(self._stub.RemoveStaff, request, step="accounts.RemoveStaff", attempts=1)).status

    async def listed(self) -> dict[str, pb.StaffMember]:
        answer = await rpc.invoke(self._stub.ListStaff, pb.ListStaffRequest(), step="accounts.ListStaff")
        return {member.email: member for member in answer.items}

    async def suspend(self, customer_id: str, by: str) -> None:
        request = pb.SuspendCustomerRequest(customer_id=customer_id, reason="stolen cards", staff_id=by)
        await rpc.invoke(self._stub.SuspendCustomer, request, step="accounts.SuspendCustomer", attempts=1)

    async def reinstate(self, customer_id: str, by: str) -> None:
        request = pb.ReinstateCustomerRequest(customer_id=customer_id, staff_id=by)
        await rpc.invoke(self._stub.ReinstateCustomer, request, step="accounts.ReinstateCustomer", attempts=1)

    async def audited(self) -> list[tuple[str, str, str]]:
        statement = "SELECT array_agg(ARRAY[actor, action, subject] ORDER BY id) FROM audit_entries"
        return [(actor, action, subject) for actor, action, subject in await self.accounts.value(statement) or []]


@pytest_asyncio.fixture(loop_scope="session")
async def team(accounts: Accounts, serve_rpc: Callable[[Application], Awaitable[Connect]]) -> Team:
    """The staff of a shop whose only member is its first owner."""
    connect = await serve_rpc(accounts.application)
    return Team(accounts, accounts_pb2_grpc.AccountsServiceStub(connect("admin")))


@asynccontextmanager
async def locked(accounts: Accounts, account_id: str) -> AsyncIterator[None]:
    """Another transaction, in another task, has the account locked while the block runs."""

    async def block() -> None:
        async with accounts.runtime.database.transaction("blocker") as connection:
            await connection.execute("SELECT FROM accounts WHERE id = $1 FOR UPDATE", account_id)
            taken.set()
            await free.wait()

    taken, free = asyncio.Event(), asyncio.Event()
    blocker = asyncio.create_task(block())
    await taken.wait()
    try:
        yield
    finally:
        free.set()
        await blocker


async def signed_in(accounts: Accounts, email: str, password: str = WORDS) -> dict[str, str]:
    """The header of somebody on the staff."""
    answer = await accounts.login(email, password, client=f"192.0.2.{len(email)}")
    assert answer.status_code == 200, answer.text
    accounts.http.cookies.clear()
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def code_of(call: Awaitable[object]) -> str:
    """The code of a refusal."""
    with pytest.raises(Problem) as refused:
        await call
    return refused.value.code


async def test_whoever_is_invited_chooses_a_password_by_mail_and_may_what_was_given(team: Team) -> None:
    """Before the click nobody can sign in; afterwards the token names exactly what was given."""
    owner = await team.owner()
    member_id = await team.invite(owner, permissions=("orders", "refunds"))
    assert (await team.listed())[JO].status == "invited"
    await team.accounts.work()
    (mail,) = team.accounts.mails("staff_invitation")
    assert (mail.to, mail.data["valid_minutes"]) == (JO, 7 * 24 * 60)
    assert (await team.accept(JO)).status_code == 204
    await signed_in(team.accounts, JO)
    jo = (await team.listed())[JO]
    assert (jo.status, jo.role, list(jo.permissions)) == ("active", "member", ["orders", "refunds"])
    assert await team.audited() == [(owner, "staff.invited", member_id)]


async def test_an_invitation_under_one_key_is_sent_once(team: Team) -> None:
    """A second click with the same key is told of the same member."""
    owner, key = await team.owner(), new_id()
    first = await team.invite(owner, key=key)
    assert await team.invite(owner, key=key) == first
    await team.accounts.work()
    assert len(team.accounts.mails("staff_invitation")) == 1


async def test_inviting_again_voids_the_link_before(team: Team) -> None:
    """A mail that went astray opens nothing once another was asked for."""
    owner = await team.owner()
    first = await team.invite(owner)
    await team.accounts.work()
    astray = team.accounts.token("staff_invitation", to=JO)
    assert await team.invite(owner, permissions=("catalog",)) == first
    await team.accounts.work()
    refused = await team.accounts.http.post("/api/auth/password/reset", json={"token": astray, "password": WORDS})
    assert refused.json()["code"] == "invalid_token"
    assert (await team.accept(JO)).status_code == 204
    assert list((await team.listed())[JO].permissions) == ["catalog"]


async def test_an_address_that_somebody_has_is_not_invited(team: Team) -> None:
    """Neither a customer's nor a colleague's: nobody's account changes sides."""
    owner = await team.owner()
    await team.accounts.customer("ada@example.com")
    await team.join(owner, permissions=("orders",))
    assert await code_of(team.invite(owner, "ADA@example.com")) == "email_taken"
    assert await code_of(team.invite(owner, JO)) == "email_taken"
    assert await team.accounts.value("SELECT count(*) FROM accounts WHERE kind = 'staff'") == 2


@pytest.mark.parametrize(
    ("role", "permissions"),
    [("member", ()), ("owner", ("orders",)), ("customer", ()), ("member", ("everything",))],
)
async def test_a_role_and_its_permissions_belong_together(team: Team, role: str, permissions: tuple[str, ...]) -> None:
    """A member without permissions, an owner with some, and roles nobody has are refused as fields."""
    invited = team.invite(await team.owner(), role=role, permissions=permissions)
    assert await code_of(invited) == "validation_failed"


async def test_nobody_gives_or_takes_more_than_they_have(team: Team) -> None:
    """A member who may manage staff cannot make an owner, give what they lack, or touch whoever has more."""
    owner = await team.owner()
    jo = await team.join(owner, JO, permissions=("staff", "orders"))
    sam = await team.join(owner, SAM, permissions=("refunds",))
    beyond = "beyond_your_permissions"
    assert await code_of(team.invite(jo, "x@holdfast.example", "owner", ())) == beyond
    assert await code_of(team.invite(jo, "x@holdfast.example", permissions=("refunds",))) == beyond
    assert await code_of(team.change(jo, jo, role="owner")) == beyond
    assert await code_of(team.change(jo, jo, permissions=["staff", "refunds"])) == beyond
    assert await code_of(team.change(sam, jo, status="suspended")) == beyond
    assert await code_of(team.remove(owner, jo)) == beyond
    assert await code_of(team.invite(sam, "x@holdfast.example")) == "permission_denied"
    assert await team.invite(jo, "x@holdfast.example", permissions=("orders",))


async def test_what_somebody_may_changes_with_their_next_token(team: Team) -> None:
    """The tokens they have are taken back; their session goes on and says the new thing."""
    owner = await team.owner()
    jo = await team.join(owner, permissions=("orders",))
    header = await signed_in(team.accounts, JO)
    assert await team.change(jo, owner, permissions=["catalog", "orders"]) == "active"
    assert (await team.accounts.http.get("/api/auth/sessions", headers=header)).status_code == 401
    assert await team.accounts.value("SELECT count(*) FROM sessions WHERE ended_at IS NULL AND account_id = $1", jo)
    assert (await team.audited())[-1] == (owner, "staff.changed", jo)
    assert await team.change(jo, owner, role="owner") == "active"
    assert set((await team.listed())[JO].permissions) == set(Permission)
    assert await code_of(team.change(jo, owner, role="member")) == "validation_failed"
    assert await team.change(jo, owner, role="member", permissions=["orders"]) == "active"


async def test_a_suspended_member_is_out_everywhere_and_comes_back(team: Team) -> None:
    """Sessions end, tokens are taken back and told to everybody, and only reinstating lets them in."""
    owner = await team.owner()
    jo = await team.join(owner, permissions=("orders",))
    header = await signed_in(team.accounts, JO)
    assert await team.change(jo, owner, status="suspended") == "suspended"
    assert (await team.accounts.http.get("/api/auth/sessions", headers=header)).status_code == 401
    assert (await team.accounts.login(JO, WORDS, client="192.0.2.200")).json()["code"] == "invalid_credentials"
    assert await team.accounts.value("SELECT count(*) FROM revocations WHERE name = $1", f"account:{jo}") == 1
    assert await team.accounts.value("SELECT end_reason FROM sessions WHERE account_id = $1", jo) == "suspended"
    assert await team.change(jo, owner, status="active") == "active"
    await signed_in(team.accounts, JO)
    assert [action for _, action, _ in await team.audited()][-2:] == ["staff.suspended", "staff.reinstated"]


async def test_a_removed_member_leaves_a_tombstone_and_a_free_address(team: Team) -> None:
    """The audit goes on naming the id; the same address may be invited again."""
    owner = await team.owner()
    jo = await team.join(owner, permissions=("orders",))
    header = await signed_in(team.accounts, JO)
    assert await team.remove(jo, owner) == "removed"
    assert JO not in await team.listed()
    assert (await team.accounts.http.get("/api/me", headers=header)).status_code == 401
    assert (await team.audited())[-1] == (owner, "staff.removed", jo)
    assert await code_of(team.remove(jo, owner)) == "staff_not_found"
    assert await team.invite(owner) != jo


async def test_the_last_owner_stays(team: Team) -> None:
    """Neither removed, suspended nor made less; an owner who has not accepted yet is none."""
    owner = await team.owner()
    await team.invite(owner, SAM, "owner", ())
    for attempt in (
        team.remove(owner, owner),
        team.change(owner, owner, status="suspended"),
        team.change(owner, owner, role="member", permissions=["staff"]),
    ):
        assert await code_of(attempt) == "last_owner"
    assert list(await team.listed()) == [OWNER, SAM]
    await team.accounts.work()
    await team.accept(SAM)
    assert await team.remove(owner, owner) == "removed"


@pytest.mark.parametrize("how", ["remove", "suspend", "demote"])
async def test_two_owners_who_remove_one_another_leave_one(team: Team, how: str) -> None:
    """Both wait for the same rows; whoever comes second is nobody any more, whatever their token says."""
    ada = await team.owner()
    bob = await team.join(ada, SAM, "owner", ())

    async def strike(by: str, at: str) -> object:
        match how:
            case "remove":
                return await team.remove(at, by)
            case "suspend":
                return await team.change(at, by, status="suspended")
            case _:
                return await team.change(at, by, role="member", permissions=["orders"])

    async with locked(team.accounts, min(ada, bob)):
        strikes = [asyncio.ensure_future(strike(by, at)) for by, at in ((ada, bob), (bob, ada))]
        async with asyncio.timeout(5):
            while await team.accounts.value(_WAITING) < len(strikes):
                await asyncio.sleep(0.01)
    outcomes = await asyncio.gather(*strikes, return_exceptions=True)
    assert [outcome.code for outcome in outcomes if isinstance(outcome, Problem)] == ["permission_denied"]
    owners = [
        member for member in (await team.listed()).values() if (member.role, member.status) == ("owner", "active")
    ]
    assert len(owners) == 1


async def test_nothing_of_an_invitation_stays_when_it_is_not_committed(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Member, link, mail and audit row are one transaction."""

    def die(name: str) -> None:
        raise Conflict(name)

    monkeypatch.setattr("services.accounts.staff.service.crash_point", die)
    assert await code_of(team.invite(await team.owner())) == "conflict"
    for table in ("mail_tokens", "audit_entries", "jobs"):
        assert await team.accounts.value(f"SELECT count(*) FROM {table}") == 0
    assert await team.accounts.value("SELECT count(*) FROM accounts") == 1


async def test_a_suspended_customer_is_out_and_gets_no_news(team: Team) -> None:
    """Once, however often it is asked; and back again."""
    owner = await team.owner()
    header = await team.accounts.customer()
    customer = str(await team.accounts.value("SELECT id::text FROM accounts WHERE kind = 'customer'"))
    await team.suspend(customer, owner)
    await team.suspend(customer, owner)
    assert (await team.accounts.http.get("/api/me", headers=header)).status_code == 401
    await team.accounts.work()
    assert not team.accounts.contacts.calls[-1].marketing_consent
    await team.reinstate(customer, owner)
    assert [row[1] for row in await team.audited()] == ["customer.suspended", "customer.reinstated"]
    assert await code_of(team.suspend(owner, owner)) == "customer_not_found"
    assert await code_of(team.suspend("no-id", owner)) == "customer_not_found"
