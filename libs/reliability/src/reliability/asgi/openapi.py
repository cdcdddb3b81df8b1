"""An OpenAPI 3.1 document from the tables of routes: what is not in a table is not in the document.

What a route can refuse follows from the rest of its row (who may call it, whether it reads a body, takes a key, has
parameters), and from the `problems` it names beyond that. Headers are described where they are specified: RFC 6750 for
tokens, RFC 9110 for `Retry-After`, draft-ietf-httpapi-idempotency-key-header and -ratelimit-headers for theirs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from reliability.asgi.endpoint import Access, Endpoint, KeyRule
from reliability.asgi.schemas import REFERENCE, Schemas
from reliability.errors import (
    DeadlineExceeded,
    IdempotencyInProgress,
    IdempotencyKeyInvalid,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedJson,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    Problem,
    RateLimited,
    RequestTimeout,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
    ValidationFailed,
)
from reliability.tokens import ACCESS_COOKIE

__all__ = ["document", "refusals"]

Json = dict[str, Any]

_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")
_WORDS: Final = re.compile(r"[A-Za-z0-9]+")
_CLAUSE: Final = re.compile(r"[;.:] ")
_PROBLEM: Final = "application/problem+json"
_WHO: Final[Mapping[Access, str]] = {
    Access.PUBLIC: "Anybody.",
    Access.CUSTOMER: "Whoever is signed in; what belongs to somebody else is 404.",
    Access.STAFF: "Staff",
    Access.SIGNED: "The sender, who proves itself by a signature over the body.",
    Access.SCHEDULER: "A machine whose token has the scope",
}
_SECURITY: Final[Mapping[Access, list[Json]]] = {
    Access.PUBLIC: [],
    Access.CUSTOMER: [{"bearer": []}, {"session": []}],
    Access.STAFF: [{"bearer": []}, {"session": []}],
    Access.SIGNED: [],
    Access.SCHEDULER: [{"machine": []}],
}
_HEADERS: Final[Json] = {
    "X-Correlation-ID": {
        "description": "The business flow this belongs to: yours when you sent a valid one, else a new one.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "RateLimit": {"description": "What is left (draft-ietf-httpapi-ratelimit-headers).", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The limits that apply.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "This answer was given before, to the first request with this key.",
        "schema": {"const": "true"},
    },
    "WWW-Authenticate": {"description": "How to say who you are.", "schema": {"type": "string"}},
}
_SCHEMES: Final[Json] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of a login.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": ACCESS_COOKIE,
        "description": "What a browser sends by itself after a login; from our own pages only.",
    },
    "machine": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A scheduler's own token: five minutes, once for each scope.",
    },
}
_PROBLEM_SCHEMA: Final[Json] = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; members beside these depend on it.",
    "required": ["type", "title", "status", "detail", "code", "correlation_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "correlation_id": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "With 422: each field that was refused; empty when none is to blame.",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901."},
                    "message": {"type": "string"},
                },
            },
        },
    },
}


def refusals(endpoint: Endpoint) -> dict[int, list[type[Problem]]]:
    """What the route can refuse with, by status; what follows from its row comes first."""
    found: dict[int, list[type[Problem]]] = {}
    for problem in (*_implied(endpoint), *endpoint.problems):
        same = found.setdefault(problem.status, [])
        if problem not in same:
            same.append(problem)
    return dict(sorted(found.items()))


def _implied(endpoint: Endpoint) -> Iterator[type[Problem]]:
    yield InvalidRequest  # the gateway's, for a request it cannot understand
    yield from (Unavailable, DeadlineExceeded)
    if endpoint.access is not Access.SIGNED:
        yield Unauthenticated  # where nobody need be signed in, for a session that has ended: said, not passed over
    if endpoint.access in {Access.STAFF, Access.SCHEDULER} or (
        endpoint.unsafe and endpoint.access is not Access.SIGNED
    ):
        yield PermissionDenied  # also what another site made a browser send
    if _PARAMETER.search(endpoint.path) or (endpoint.body is not None and endpoint.access is not Access.PUBLIC):
        yield NotFound  # what the path or the body names
    if endpoint.unsafe:
        yield from (PayloadTooLarge, RequestTimeout)
    if endpoint.body is not None:
        yield MalformedJson
    if endpoint.body is not None or endpoint.accepts:
        yield UnsupportedMediaType
    if endpoint.body is not None or endpoint.query is not None:
        yield ValidationFailed
    if endpoint.unsafe and endpoint.key is not KeyRule.IGNORED:
        yield from (IdempotencyKeyInvalid, IdempotencyInProgress, IdempotencyKeyReused)
        if endpoint.key is KeyRule.REQUIRED:
            yield IdempotencyKeyMissing


def document(services: Mapping[str, Iterable[Endpoint]], *, title: str, version: str, description: str) -> Json:
    """One document for the routes of every service, each under a tag of its service's name."""
    tables = {service: list(endpoints) for service, endpoints in sorted(services.items())}
    schemas = Schemas(endpoint for table in tables.values() for endpoint in table)
    paths: dict[str, Json] = {}
    for service, table in tables.items():
        for endpoint in table:
            path = _PARAMETER.sub(r"{\1}", endpoint.path)
            paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, service, schemas)
    whole: Json = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": "/"}],
        "tags": [{"name": service} for service, table in tables.items() if table],
        "paths": {path: dict(sorted(paths[path].items())) for path in sorted(paths)},
        "components": {
            "schemas": {"Problem": _PROBLEM_SCHEMA},
            "responses": {f"Problem{status}": _refused(status, []) for status in sorted(_DESCRIPTIONS)},
            "headers": _HEADERS,
            "securitySchemes": _SCHEMES,
        },
    }
    whole["components"]["schemas"] |= schemas.used_by(whole)
    return whole


def _operation(endpoint: Endpoint, service: str, schemas: Schemas) -> Json:
    operation: Json = {
        "operationId": _name(endpoint),
        "tags": [service],
        "summary": endpoint.summary or _summary(endpoint),
        "description": _access(endpoint),
        "security": _SECURITY[endpoint.access],
        "x-access": endpoint.access.value,
    }
    if endpoint.permission:
        operation["x-permission"] = endpoint.permission
    if parameters := [*_path(endpoint), *_query(endpoint, schemas), *_key(endpoint)]:
        operation["parameters"] = parameters
    if body := _body(endpoint, schemas):
        operation["requestBody"] = body
    operation["responses"] = _responses(endpoint, schemas)
    return operation


def _name(endpoint: Endpoint) -> str:
    words = [endpoint.method.lower(), *_WORDS.findall(endpoint.path.removeprefix("/api"))]
    return str(words[0]) + "".join(word[:1].upper() + word[1:] for word in words[1:])


def _summary(endpoint: Endpoint) -> str:
    """How the docstring of the handler, of what it reads or of what it answers begins; or what the path says."""
    for source in (endpoint.handler, endpoint.body, endpoint.answer):
        # A class would otherwise say what its base says.
        said: str = (vars(source).get("__doc__") if isinstance(source, type) else getattr(source, "__doc__", "")) or ""
        if first := said.strip().partition("\n")[0]:
            return _CLAUSE.split(first)[0].rstrip(".")
    words = _WORDS.findall(_PARAMETER.sub("", endpoint.path.removeprefix("/api")))
    return " ".join(words).capitalize()


def _access(endpoint: Endpoint) -> str:
    who = _WHO[endpoint.access]
    match endpoint.access:
        case Access.STAFF:
            who += f" with the permission `{endpoint.permission}`." if endpoint.permission else "."
        case Access.SCHEDULER:
            who += f" `{endpoint.permission}`."
    return f"Who: {who[0].lower()}{who[1:]}"


def _path(endpoint: Endpoint) -> Iterator[Json]:
    for name in _PARAMETER.findall(endpoint.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(endpoint: Endpoint, schemas: Schemas) -> Iterator[Json]:
    if endpoint.query is None:
        return
    schema = schemas.whole(endpoint.query)
    for name, field in schema.get("properties", {}).items():
        parameter: Json = {"name": name, "in": "query", "schema": field}
        if text := field.get("description"):
            parameter["description"] = text
        if name in schema.get("required", ()):
            parameter["required"] = True
        yield parameter


def _key(endpoint: Endpoint) -> Iterator[Json]:
    if not endpoint.unsafe or endpoint.key is KeyRule.IGNORED:
        return
    yield {
        "name": "Idempotency-Key",
        "in": "header",
        "required": endpoint.key is KeyRule.REQUIRED,
        "description": "The same key and the same body get the same answer, and the work is done once.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    }


def _body(endpoint: Endpoint, schemas: Schemas) -> Json:
    if endpoint.body is not None:
        return {"required": True, "content": {"application/json": {"schema": schemas.of(endpoint.body, "validation")}}}
    if endpoint.accepts:
        return {"required": True, "content": {media: {"schema": {"type": "string"}} for media in endpoint.accepts}}
    return {}


def _responses(endpoint: Endpoint, schemas: Schemas) -> Json:
    successes = {endpoint.status: endpoint.answer, **endpoint.answers}
    responses = {str(status): _success(endpoint, model, status, schemas) for status, model in sorted(successes.items())}
    for status, problems in refusals(endpoint).items():
        responses[str(status)] = _refused(status, problems)
    return responses


def _success(endpoint: Endpoint, model: type[BaseModel] | None, status: int, schemas: Schemas) -> Json:
    headers = ["X-Correlation-ID"]
    if RateLimited in endpoint.problems:
        headers += ["RateLimit", "RateLimit-Policy"]
    if endpoint.unsafe and endpoint.key is not KeyRule.IGNORED:
        headers.append("Idempotent-Replayed")
    answer: Json = {"description": _DONE.get(status, "Done."), "headers": _named(headers)}
    if model is not None:
        answer["content"] = {endpoint.produces: {"schema": schemas.of(model, "serialization")}}
    elif status == endpoint.status and endpoint.produces != "application/json":
        answer["content"] = {endpoint.produces: {"schema": {"type": "string"}}}
    elif status == 200:
        answer["content"] = {endpoint.produces: {"schema": {}}}
    return answer


_DONE: Final = {201: "Made.", 202: "Accepted; it happens soon.", 204: "Done, and nothing to say.", 302: "Elsewhere."}
_DESCRIPTIONS: Final = {
    400: "The request cannot be understood.",
    401: "No credentials, or bad ones.",
    403: "Known, but not allowed; or sent by another site.",
    404: "No such thing, or somebody else's.",
    408: "The request took too long to arrive.",
    409: "The state of things does not allow it.",
    413: "The body is over 1 MiB.",
    415: "The body is of a kind this route does not read.",
    422: "Understood, but it makes no sense.",
    429: "Later, please.",
    502: "Somebody we depend on answered nonsense.",
    503: "Not available at the moment; trying again is safe with the same Idempotency-Key.",
    504: "Out of time; trying again is safe with the same Idempotency-Key.",
}


def _refused(status: int, problems: Iterable[type[Problem]]) -> Json:
    """A response; without problems of its own the shared one."""
    codes = ", ".join(f"`{problem.code}`" for problem in problems)
    headers = ["X-Correlation-ID"]
    if status in {429, 503}:
        headers.append("Retry-After")
    if status == 429:
        headers += ["RateLimit", "RateLimit-Policy"]
    if status == 401:
        headers.append("WWW-Authenticate")
    return {
        "description": _DESCRIPTIONS.get(status, "Refused.") + (f" Codes: {codes}." if codes else ""),
        "headers": _named(headers),
        "content": {_PROBLEM: {"schema": {"$ref": REFERENCE.format(model="Problem")}}},
    }


def _named(headers: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
