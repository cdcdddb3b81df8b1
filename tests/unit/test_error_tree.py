"""Every error there is, of the library and of all services: one code each, one shape over HTTP, the same over gRPC."""

import importlib
import pkgutil
from collections import Counter
from http import HTTPStatus

import grpc
import pytest

import reliability
import services
from libs.reliability.tests.support import an, assert_error_crosses, leaves
from reliability.bulkhead import Overloaded
from reliability.errors import Problem, RemoteProblem

# Refusals of our own that a client cannot and need not tell from any other 503.
SAME_CODE = {Overloaded}


def everything() -> list[type[Problem]]:
    """The tree, with every module imported that might add to it."""
    for package in (reliability, services):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = ("reliability.", "services.")
    return [kind for kind in leaves() if kind.__module__.startswith(ours) and kind is not RemoteProblem]


TREE = everything()
SERVICES = [module.name for module in pkgutil.iter_modules(services.__path__)]


def test_the_tree_is_whole() -> None:
    """A walk that finds nothing would pass every test below."""
    assert len(TREE) > 40
    assert {kind.__module__.split(".")[0] for kind in TREE} == {"reliability", "services"}


@pytest.mark.parametrize("service", sorted({kind.__module__.split(".")[1] for kind in TREE} & {*SERVICES}))
def test_within_a_service_a_code_names_one_error(service: str) -> None:
    """And says what it is in small letters: it is what clients compare."""
    mine = [kind for kind in TREE if kind.__module__.startswith(("reliability.", f"services.{service}."))]
    codes = Counter(kind.code for kind in mine if kind not in SAME_CODE)
    assert {code: count for code, count in codes.items() if count > 1} == {}
    assert all(code.isascii() and code.replace("_", "").isalnum() and code == code.lower() for code in codes)


def test_a_code_means_the_same_in_every_service() -> None:
    """Two services may both refuse for want of stock, with one status."""
    meanings: dict[str, set[tuple[int, str]]] = {}
    for kind in TREE:
        meanings.setdefault(kind.code, set()).add((kind.status, kind.grpc))
    assert {code: found for code, found in meanings.items() if len(found) > 1} == {}


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
async def test_an_error_crosses_both_edges(kind: type[Problem]) -> None:
    """With its own code, a title for people, an HTTP status and a gRPC code that mean the same."""
    assert kind.__doc__, "it says when it is raised"
    assert kind.title
    assert HTTPStatus(kind.status) >= 400
    assert kind.grpc in grpc.StatusCode.__members__
    assert kind.grpc != "OK"
    await assert_error_crosses(an(kind))


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_a_status_fits_its_grpc_code(kind: type[Problem]) -> None:
    """So that a client that knows only one of them does the right thing: wait, sign in, correct, or give up."""
    assert (
        kind.grpc
        in {
            400: {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"},
            401: {"UNAUTHENTICATED"},
            402: {"FAILED_PRECONDITION"},
            403: {"PERMISSION_DENIED"},
            404: {"NOT_FOUND"},
            405: {"UNIMPLEMENTED"},
            408: {"DEADLINE_EXCEEDED"},
            409: {"ABORTED", "ALREADY_EXISTS", "FAILED_PRECONDITION"},
            410: {"NOT_FOUND", "FAILED_PRECONDITION"},
            413: {"RESOURCE_EXHAUSTED"},
            415: {"INVALID_ARGUMENT"},
            422: {"INVALID_ARGUMENT", "FAILED_PRECONDITION"},
            429: {"RESOURCE_EXHAUSTED"},
            500: {"INTERNAL"},
            502: {"UNAVAILABLE", "INTERNAL"},
            503: {"UNAVAILABLE"},
            504: {"DEADLINE_EXCEEDED"},
        }[kind.status]
    )
