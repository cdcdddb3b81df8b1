"""Accounts in the database: the first owner, the seed customers and telling notifications about them."""

import asyncio

import asyncpg
import pytest

from services.accounts.app import build
from services.accounts.identity.domain import NewCustomer
from services.accounts.identity.service import IdentityService
from services.accounts.passwords import Passwords
from services.accounts.seed import CUSTOMERS, seed
from tests.integration.accounts.conftest import OWNER, PASSWORD, Accounts, MakeAccounts


async def count(accounts: Accounts, statement: str) -> int:
    async with accounts.runtime.database.connection() as connection:
        return int(await connection.fetchval(statement))


async def test_two_replicas_starting_at_once_make_one_owner(make_accounts: MakeAccounts) -> None:
    """Both look, both find nobody, both insert: one owner, no error."""
    accounts = await make_accounts(staff_email=None, staff_password=None)
    identity = IdentityService(accounts.runtime.database, Passwords())
    await asyncio.gather(*(identity.ensure_first_owner(OWNER, PASSWORD) for _ in range(4)))
    assert await count(accounts, "SELECT count(*) FROM accounts WHERE role = 'owner'") == 1
    assert (await accounts.login()).status_code == 200


async def test_a_restart_with_another_password_changes_nobodys(accounts: Accounts) -> None:
    """The environment makes the first owner, it does not reset one."""
    await IdentityService(accounts.runtime.database, Passwords()).ensure_first_owner(OWNER.upper(), "something else")
    assert (await accounts.login()).status_code == 200
    assert await count(accounts, "SELECT count(*) FROM accounts") == 1


async def test_the_seed_reaches_notifications_through_the_outbox(accounts: Accounts) -> None:
    """Thirty customers, thirty calls; a second seeding adds and tells nothing."""
    url = str(accounts.runtime.settings.database_url)
    assert await seed(url) == 30
    await accounts.runtime.worker.run_until_idle()
    told = {call.email: call for call in accounts.contacts.calls}
    assert {(c.email, c.name, c.marketing_consent) for c in told.values()} == {
        (c.email, c.name, c.marketing_consent) for c in CUSTOMERS
    }
    assert all(call.customer_id and call.changed_at.seconds for call in told.values())
    assert await seed(url) == 0
    await accounts.runtime.worker.run_until_idle()
    assert len(accounts.contacts.calls) == 30


async def test_seeded_customers_cannot_sign_in(accounts: Accounts) -> None:
    """Without a password there is no way in, not even with an empty hash's password."""
    await seed(str(accounts.runtime.settings.database_url))
    assert (await accounts.login(email=CUSTOMERS[0].email)).status_code == 401


async def test_a_rolled_back_customer_is_not_announced(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job vanishes with the change that caused it."""

    async def fail(*_: object) -> None:
        raise RuntimeError("crash before commit")

    identity = IdentityService(accounts.runtime.database, Passwords())
    with monkeypatch.context() as patched:
        patched.setattr("services.accounts.identity.service.announce", fail)
        with pytest.raises(RuntimeError):
            await identity.register_customers([NewCustomer("x@example.com", "X", marketing_consent=True)])
    assert await count(accounts, "SELECT count(*) FROM accounts WHERE kind = 'customer'") == 0
    assert await count(accounts, "SELECT count(*) FROM jobs") == 0


async def test_the_news_waits_for_notifications_to_come_back(accounts: Accounts) -> None:
    """While the receiver is away the job is kept, and what it then tells is the customer as it is by then."""
    accounts.contacts.away = True
    identity = IdentityService(accounts.runtime.database, Passwords())
    await identity.register_customers([NewCustomer("x@example.com", "X", marketing_consent=True)])
    await accounts.runtime.worker.run_until_idle()
    assert accounts.contacts.calls == []
    assert await count(accounts, "SELECT count(*) FROM jobs WHERE state = 'queued' AND attempt = 1") == 1
    accounts.contacts.away = False
    async with accounts.runtime.database.connection() as connection:
        await connection.execute("UPDATE accounts SET name = 'X. Newname' WHERE kind = 'customer'")
        await connection.execute("UPDATE jobs SET run_at = now()")
    await accounts.runtime.worker.run_until_idle()
    assert [call.name for call in accounts.contacts.calls] == ["X. Newname"]
    assert await count(accounts, "SELECT count(*) FROM jobs WHERE state <> 'done'") == 0


async def test_telling_twice_tells_the_same(accounts: Accounts) -> None:
    """A job that ran, but whose completion was lost, runs again with the same content."""
    identity = IdentityService(accounts.runtime.database, Passwords())
    await identity.register_customers([NewCustomer("x@example.com", "X", marketing_consent=False)])
    await accounts.runtime.worker.run_until_idle()
    async with accounts.runtime.database.connection() as connection:
        await connection.execute("UPDATE jobs SET state = 'queued', finished_at = NULL")
    await accounts.runtime.worker.run_until_idle()
    first, second = accounts.contacts.calls
    assert first == second


async def test_news_of_an_account_that_is_gone_is_dropped(accounts: Accounts) -> None:
    """A job whose customer no longer exists ends without a call."""
    identity = IdentityService(accounts.runtime.database, Passwords())
    await identity.register_customers([NewCustomer("x@example.com", "X", marketing_consent=False)])
    async with accounts.runtime.database.connection() as connection:
        await connection.execute("DELETE FROM accounts WHERE kind = 'customer'")
    await accounts.runtime.worker.run_until_idle()
    assert accounts.contacts.calls == []
    assert await count(accounts, "SELECT count(*) FROM jobs WHERE state <> 'done'") == 0


@pytest.mark.parametrize(
    "values",
    [
        "'customer', 'owner', 'a@example.com', 'A'",
        "'staff', 'customer', 'a@example.com', 'A'",
        "'staff', 'emperor', 'a@example.com', 'A'",
        "'customer', 'customer', 'no address', 'A'",
        "'customer', 'customer', 'a@example.com', ''",
    ],
)
async def test_the_database_refuses_impossible_accounts(accounts: Accounts, values: str) -> None:
    """Kind and role belong together, addresses look like addresses, names are not empty."""
    async with accounts.runtime.database.connection() as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(f"INSERT INTO accounts (kind, role, email, name) VALUES ({values})")


async def test_addresses_are_unique_in_any_capitals(accounts: Accounts) -> None:
    """One address is one account."""
    async with accounts.runtime.database.connection() as connection:
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(
                "INSERT INTO accounts (kind, role, email, name) VALUES ('customer', 'customer', $1, 'A')",
                OWNER.title(),
            )


async def test_a_root_builds_again(accounts: Accounts) -> None:
    """The composition root keeps no global state: building twice in one process works."""
    assert build(accounts.runtime).endpoints
