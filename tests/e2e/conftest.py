"""The whole system, once for all end-to-end tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, Staff
from deploy.local.ports import pick_port_base
from deploy.local.system import System


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Gateway, six services, sandboxes, PostgreSQL and Valkey as processes."""
    with System(tmp_path_factory.mktemp("system"), pick_port_base()) as system:
        yield system


@pytest.fixture
def observer(system: System) -> Observer:
    """Looks at what really happened."""
    return Observer(system.endpoints, system.state.logs)


@pytest_asyncio.fixture(loop_scope="session")
async def shopper(system: System) -> AsyncIterator[Shopper]:
    """A new customer."""
    shopper = Shopper(system.endpoints)
    yield shopper
    await shopper.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def staff(system: System) -> AsyncIterator[Staff]:
    """A member of staff, signed in once: five logins in a quarter of an hour are all there are."""
    staff = Staff(system.endpoints)
    await staff.sign_in()
    yield staff
    await staff.close()
