"""Every service as its composition root makes it, and nothing started: for generated files, and for tests."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from deploy.local.certificates import ensure_credentials
from deploy.local.credentials import load_secrets
from deploy.local.external import External
from deploy.local.ports import SERVICES, Ports
from deploy.local.state import StateDir
from deploy.local.topology import Site
from reliability import settings
from reliability.runtime import Application, Runtime
from reliability.settings import ServiceSettings

__all__ = ["rehearsed"]


@asynccontextmanager
async def rehearsed() -> AsyncIterator[Mapping[str, Application]]:
    """The services by name, with settings as `make up` gives them. No connection is opened, no port is taken."""
    with tempfile.TemporaryDirectory() as folder:
        state = StateDir(Path(folder))
        state.create()
        ensure_credentials(state.tls)
        site = Site(state, Ports(), load_secrets(state), External.of({}), {})
        async with AsyncExitStack() as stack:
            applications = {}
            for service in SERVICES:
                runtime = _runtime(service, site)
                stack.push_async_callback(runtime.close)
                applications[service] = _module(service, "app").build(runtime)
            yield applications


def _runtime(service: str, site: Site) -> Runtime[ServiceSettings]:
    kinds = [kind for kind in vars(_module(service, "settings")).values() if isinstance(kind, type)]
    (kind,) = (kind for kind in kinds if issubclass(kind, ServiceSettings) and kind is not ServiceSettings)
    with _environment(site.service_environment(service)):
        return Runtime(service, settings.load(kind))


def _module(service: str, name: str) -> Any:
    return import_module(f"services.{service.replace('-', '_')}.{name}")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
