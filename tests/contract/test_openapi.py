"""The published document lists exactly what is served, through the gateway, and says everything it may answer."""

import functools
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml
from starlette.routing import Route

from deploy.local.ports import SERVICES
from deploy.local.rehearsal import rehearsed
from deploy.local.state import ROOT
from reliability.asgi import Access
from reliability.asgi.openapi import refusals
from reliability.health import Readiness
from reliability.runtime import Application
from services.gateway.render import TEMPLATE
from tools import openapi

DOCUMENT = ROOT / "services" / "admin" / "docs" / "openapi.json"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def applications() -> AsyncIterator[Mapping[str, Application]]:
    """The services, not started."""
    async with rehearsed() as applications:
        yield applications


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """What is committed."""
    found: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


async def test_the_committed_document_is_current() -> None:
    """Or `make generate` has been forgotten."""
    assert json.loads(DOCUMENT.read_text()) == await openapi.current()


def test_it_lists_exactly_what_is_served(applications: Mapping[str, Application], document: dict[str, Any]) -> None:
    """Every row of every service's table, under its service's name, and nothing else."""
    served = {
        (endpoint.method, endpoint.path, service)
        for service, application in applications.items()
        for endpoint in application.endpoints
    }
    assert {(method, path, each["tags"][0]) for method, path, each in operations(document)} == served


@functools.cache
def gateway_routes() -> list[tuple[dict[str, str], str]]:
    """What the gateway matches, in its order, and the cluster it sends that to."""
    text = re.sub(r"\$\{\w+\}", "1", TEMPLATE.read_text())
    manager = yaml.safe_load(text)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    return [(each["match"], each["route"]["cluster"]) for each in routes if "route" in each]


def cluster_of(path: str) -> str | None:
    """Where the gateway sends a path."""
    for match, cluster in gateway_routes():
        exact, prefix = match.get("path"), match.get("path_separated_prefix")
        if path == exact or (prefix is not None and (path == prefix or path.startswith(f"{prefix}/"))):
            return cluster
    return None


@pytest.mark.parametrize("service", SERVICES)
def test_the_gateway_sends_every_route_to_its_owner(applications: Mapping[str, Application], service: str) -> None:
    """A route that the gateway does not know is served to nobody."""
    for endpoint in applications[service].endpoints:
        assert (endpoint.path, cluster_of(endpoint.path)) == (endpoint.path, service)


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_not_in_a_table_is_not_public(applications: Mapping[str, Application], service: str) -> None:
    """Routes beside the tables have no checks before them: the gateway lets nobody through to them."""
    edge = applications[service].asgi(Readiness({}), request_seconds=1.0)
    table = {endpoint.path for endpoint in applications[service].endpoints}
    routed: Any = edge._app
    paths = {route.path for route in routed._application.routes if isinstance(route, Route)}
    assert {"/livez", "/readyz", "/metrics"} <= paths - table
    assert [path for path in paths - table if cluster_of(path) is not None] == []


def test_no_two_routes_of_a_service_are_one(applications: Mapping[str, Application]) -> None:
    """A second row for a method and path would silently replace the first."""
    for application in applications.values():
        rows = [(endpoint.method, endpoint.path) for endpoint in application.endpoints]
        assert len(rows) == len(set(rows))


def test_a_protected_route_says_what_it_needs(applications: Mapping[str, Application]) -> None:
    """A service with protected routes can tell who is asking; a scheduler's route has a scope that no other has."""
    scopes: list[str] = []
    for application in applications.values():
        for endpoint in application.endpoints:
            if endpoint.access in {Access.CUSTOMER, Access.STAFF}:
                assert application.authenticate is not None
            if endpoint.access is Access.SCHEDULER:
                assert endpoint.permission
                scopes.append(endpoint.permission)
    assert len(scopes) == len(set(scopes))


def test_every_operation_is_whole(document: dict[str, Any]) -> None:
    """A name of its own, an answer that succeeds, every refusal as a problem, every answer with a correlation id."""
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for _method, _path, operation in operations(document):
        responses = {int(status): _resolved(document, each) for status, each in operation["responses"].items()}
        assert [status for status in responses if status < 400]
        assert {400, 503, 504} <= set(responses)
        assert {500} & set(responses) == set()
        for status, response in responses.items():
            assert "X-Correlation-ID" in response["headers"]
            if status >= 400:
                assert list(response["content"]) == ["application/problem+json"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """And no schema is there for nothing."""
    text = DOCUMENT.read_text()
    targets = set(re.findall(r'"\$ref": "#/([^"]+)"', text))
    for target in targets:
        at: Any = document
        for step in target.split("/"):
            at = at[step]
    used = {target.rpartition("/")[2] for target in targets if target.startswith("components/schemas/")}
    assert set(document["components"]["schemas"]) == used


def _resolved(document: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    name = response.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["responses"][name] if name else response
    return found


async def test_the_page_needs_nothing_from_outside(applications: Mapping[str, Application]) -> None:
    """The document, the page and all it loads come from here, under a policy that allows nothing else."""
    edge = applications["admin"].asgi(Readiness({}), request_seconds=8.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://shop.test") as http:
        api = await http.get("/api/openapi.json")
        assert api.json() == json.loads(DOCUMENT.read_text())
        again = await http.get("/api/openapi.json", headers={"If-None-Match": api.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        page = await http.get("/api/docs")
        assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        loaded = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
        assert {"/api/docs/app.js", "/api/docs/style.css"} <= set(loaded)
        for path in loaded:
            assert (await http.get(path)).status_code == 200
        texts = [page.text, *[(await http.get(path)).text for path in loaded if path.startswith("/api/docs/")]]
        assert [text for text in texts if re.search(r"https?://", text)] == []
        assert [text for text in texts if re.search(r"innerHTML|\beval\(|<script>|style=\"", text)] == []


def test_what_a_route_refuses_follows_from_its_row(applications: Mapping[str, Application]) -> None:
    """The document says of each row what the checks in front of its handler can answer."""
    for application in applications.values():
        for endpoint in application.endpoints:
            said = set(refusals(endpoint))
            assert ({401} <= said) or endpoint.access in {Access.PUBLIC, Access.SIGNED}
            assert ({404} <= said) or "{" not in endpoint.path
            assert ({413, 415, 422} <= said) or endpoint.body is None
