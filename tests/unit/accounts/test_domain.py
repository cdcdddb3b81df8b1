"""Roles and the seed customers."""

import pytest

from services.accounts.identity.domain import Permission, Role, permissions_of
from services.accounts.passwords import Passwords
from services.accounts.seed import CUSTOMERS


def test_the_owner_may_do_everything_and_a_customer_nothing_of_it() -> None:
    """Permissions follow from the role alone."""
    assert permissions_of(Role.OWNER) == set(Permission)
    assert permissions_of(Role.CUSTOMER) == frozenset()


def test_seed_customers_are_thirty_people_at_reserved_addresses() -> None:
    """Nobody real can get mail (RFC 2606), everybody is there once, and about five in six agreed to marketing."""
    assert len({customer.email.lower() for customer in CUSTOMERS}) == 30
    assert all(customer.email.endswith(("@example.com", "@example.org")) for customer in CUSTOMERS)
    assert sum(customer.marketing_consent for customer in CUSTOMERS) == 25


async def test_a_password_matches_however_its_characters_were_typed() -> None:
    """A composed and a decomposed e-acute are the same password; another one is not."""
    passwords = Passwords()
    stored = await passwords.hash("caf\u00e9 au lait")
    assert await passwords.verify(stored, "cafe\u0301 au lait")
    assert not await passwords.verify(stored, "cafe au lait")


@pytest.mark.parametrize("stored", [None, "not a hash"])
async def test_nothing_matches_where_no_password_is(stored: str | None) -> None:
    """An account without a usable password cannot be entered with any."""
    assert not await Passwords().verify(stored, "anything")
