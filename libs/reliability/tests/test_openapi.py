"""The document says of a route what its row says, and what follows from it."""

from typing import Any

import pytest
from pydantic import BaseModel

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule, openapi
from reliability.errors import Conflict, Problem, RateLimited


class Money(BaseModel):
    """An amount."""

    amount: int


class Order(BaseModel):
    """What was ordered; more than one line."""

    total: Money
    note: str | None = None


class Page(BaseModel):
    limit: int = 20
    after: str


def _elsewhere() -> type[BaseModel]:
    class Money(BaseModel):
        cents: str

    class Invoice(BaseModel):
        money: Money

    return Invoice


async def handle(_call: Call) -> Answer:
    return Answer()


class SoldOut(Conflict):
    code = "sold_out"


def operation(*rows: Endpoint) -> dict[str, Any]:
    """The first row's operation."""
    found = document(*rows)["paths"][rows[0].path][rows[0].method.lower()]
    return dict(found)


def document(*rows: Endpoint) -> dict[str, Any]:
    return openapi.document({"shop": rows}, title="Shop", version="1", description="")


@pytest.mark.parametrize(
    ("row", "statuses"),
    [
        (Endpoint("GET", "/a", handle), {200, 400, 401, 503, 504}),
        (Endpoint("GET", "/a/{id}", handle), {200, 400, 401, 404, 503, 504}),
        (Endpoint("GET", "/a", handle, query=Page), {200, 400, 401, 422, 503, 504}),
        (Endpoint("GET", "/a", handle, access=Access.CUSTOMER), {200, 400, 401, 503, 504}),
        (
            Endpoint("PUT", "/a", handle, access=Access.CUSTOMER, key=KeyRule.IGNORED, body=Order),
            {200, 400, 401, 403, 404, 408, 413, 415, 422, 503, 504},
        ),
        (Endpoint("GET", "/a", handle, access=Access.STAFF), {200, 400, 401, 403, 503, 504}),
        (Endpoint("POST", "/a", handle, status=201), {201, 400, 401, 403, 408, 409, 413, 422, 503, 504}),
        (Endpoint("POST", "/a", handle, body=Order), {200, 400, 401, 403, 408, 409, 413, 415, 422, 503, 504}),
        (Endpoint("POST", "/a", handle, key=KeyRule.IGNORED, status=204), {204, 400, 401, 403, 408, 413, 503, 504}),
        (Endpoint("POST", "/a", handle, access=Access.SIGNED, key=KeyRule.IGNORED), {200, 400, 408, 413, 503, 504}),
        (
            Endpoint("POST", "/a", handle, access=Access.SCHEDULER, permission="x", key=KeyRule.IGNORED),
            {200, 400, 401, 403, 408, 413, 503, 504},
        ),
        (
            Endpoint("GET", "/a", handle, answers={202: Order, 304: None}, problems=(RateLimited,)),
            {200, 202, 304, 400, 401, 429, 503, 504},
        ),
        (
            Endpoint("PUT", "/a", handle, key=KeyRule.IGNORED, accepts=("text/csv",)),
            {200, 400, 401, 403, 408, 413, 415, 503, 504},
        ),
    ],
)
def test_the_statuses_follow_from_the_row(row: Endpoint, statuses: set[int]) -> None:
    """Who may call it, whether it has parameters, reads a body or takes a key; and never 500."""
    assert {int(status) for status in operation(row)["responses"]} == statuses


def test_problems_of_its_own_are_named() -> None:
    """Beside those that follow, by code."""
    said = operation(Endpoint("POST", "/a", handle, problems=(SoldOut, RateLimited)))["responses"]
    assert "`idempotency_in_progress`, `sold_out`" in said["409"]["description"]
    assert set(said["429"]["headers"]) == {"X-Correlation-ID", "Retry-After", "RateLimit", "RateLimit-Policy"}
    assert "RateLimit" in said["200"]["headers"]
    assert openapi.refusals(Endpoint("GET", "/a", handle, problems=(Problem,)))[500] == [Problem]


def test_bodies_parameters_and_keys() -> None:
    """What a client sends: the path's parameters, the query's fields, the key where it counts, the body's model."""
    row = Endpoint("POST", "/a/{id}/b", handle, query=Page, body=Order, answer=Order, key=KeyRule.REQUIRED)
    said = operation(row)
    given = {(each["name"], each["in"], each.get("required", False)) for each in said["parameters"]}
    assert given == {
        ("id", "path", True),
        ("limit", "query", False),
        ("after", "query", True),
        ("Idempotency-Key", "header", True),
    }
    reference = {"$ref": "#/components/schemas/Order"}
    assert said["requestBody"]["content"]["application/json"]["schema"] == reference
    assert said["responses"]["200"]["content"]["application/json"]["schema"] == reference
    assert (said["operationId"], said["summary"], said["tags"]) == ("postAIdB", "What was ordered", ["shop"])


def test_models_of_one_name_are_told_apart_only_when_they_differ() -> None:
    """Equal ones become one; the other gets a longer name, and references follow."""
    invoice = _elsewhere()
    whole = document(Endpoint("GET", "/a", handle, answer=Order), Endpoint("GET", "/b", handle, answer=invoice))
    schemas = whole["components"]["schemas"]
    names = {name for name in schemas if name.endswith("Money")}
    assert len(names) == 2
    targets = [
        schemas[schemas[who]["properties"][field]["$ref"].rpartition("/")[2]]
        for who, field in (("Order", "total"), ("Invoice", "money"))
    ]
    assert [list(each["properties"]) for each in targets] == [["amount"], ["cents"]]
    assert set(document(Endpoint("GET", "/a", handle, answer=Money))["components"]["schemas"]) == {"Problem", "Money"}
