"""The whole system, and the Chromium of this machine."""

import shutil
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper
from deploy.local.ports import pick_port_base
from deploy.local.system import System

if TYPE_CHECKING:
    from playwright.async_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")


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


@pytest_asyncio.fixture(loop_scope="session")
async def page() -> AsyncIterator["Page"]:
    """A tab the size of a telephone; whatever goes wrong in it, its console says and the test fails."""
    driver = pytest.importorskip("playwright.async_api", reason="make browser installs what drives Chromium")
    chromium = next((path for name in NAMES if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    async with driver.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--disable-dev-shm-usage"])
        page = await browser.new_page(viewport={"width": 390, "height": 844})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        yield page
        await browser.close()
        assert wrong == []
