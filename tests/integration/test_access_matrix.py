"""Every route and every RPC, against everybody who might try: the tables say who gets in, and exactly those do.

The rows come from the services' own tables and from the proto, so a route or an RPC to come is in here already. Behind
each stands a handler that answers the row's status: what is not that was refused by the edge, before anything ran.
"""

import base64
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import httpx
import orjson
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey

from deploy.local.certificates import OPERATOR, ensure_certificates
from deploy.local.ports import HOST, SERVICES
from deploy.local.rehearsal import rehearsed
from deploy.local.state import ROOT
from holdfast.common.v1 import access_pb2
from reliability import rpc
from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule, Perimeter, authenticator
from reliability.health import Readiness
from reliability.ids import new_id
from reliability.machine_tokens import MachineVerifier, TrustedIssuer, mint
from reliability.runtime import Application
from reliability.tokens import ACCESS_COOKIE, ALGORITHM, AUDIENCE, ISSUER, TokenVerifier
from services.accounts.identity.domain import Kind, Permission, Role, permissions_of

if TYPE_CHECKING:
    from conftest import DatabaseFor, Servers

PROTO = ROOT / "proto" / "gen"
SHOP, ELSEWHERE = "https://shop.test", "https://evil.test"
SCHEDULER = "scheduler"


def new_key() -> OKPKey:
    """An Ed25519 key with an id."""
    key = OKPKey.generate_key("Ed25519", {"use": "sig", "alg": ALGORITHM})
    key.ensure_kid()
    return key


OURS, FORGERS, MACHINES = new_key(), new_key(), new_key()


def claims(role: Role = Role.CUSTOMER, **changes: Any) -> dict[str, Any]:
    """What accounts says of somebody of that role."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": new_id(),
        "iat": now,
        "exp": now + 900,
        "jti": new_id(),
        "kind": (Kind.CUSTOMER if role is Role.CUSTOMER else Kind.STAFF).value,
        "role": role.value,
        "permissions": sorted(permissions_of(role)),
    }
    return good | changes


def token(key: OKPKey = OURS, kid: str | None = None, **says: Any) -> str:
    """A signed access token."""
    return jwt.encode({"alg": ALGORITHM, "kid": kid or key.kid}, claims(**says), key, algorithms=[ALGORITHM])


def unsigned() -> str:
    """The owner's claims, and no signature."""
    parts = ({"alg": "none"}, claims(Role.OWNER))
    return ".".join(base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in parts) + "."


def machine(*scopes: str, key: OKPKey = MACHINES, **options: Any) -> str:
    """A token of a scheduler."""
    return mint(key, issuer=SCHEDULER, subject="nightly", scopes=scopes, **options)


@dataclass(frozen=True)
class Persona:
    """Somebody who tries a route: what they send, and as whom they count (None: as nobody)."""

    name: str
    role: Role | None = None
    bearer: str = ""
    scheduler: str = ""
    foreign: bool = False
    given: frozenset[Permission] = frozenset()

    def headers(self, endpoint: Endpoint) -> dict[str, str]:
        match self.scheduler:
            case "scope":
                return {"Authorization": f"Bearer {machine(endpoint.permission or 'none')}"}
            case "another scope":
                return {"Authorization": f"Bearer {machine('another')}"}
        if self.foreign:
            return {"Cookie": f"{ACCESS_COOKIE}={self.bearer}", "Origin": ELSEWHERE}
        return {"Authorization": f"Bearer {self.bearer}"} if self.bearer else {}

    def expected(self, endpoint: Endpoint) -> int:
        """The status that the contract gives this pair."""
        match endpoint.access:
            case Access.PUBLIC:
                refused = 403 if self.foreign and endpoint.unsafe else 0
            case Access.SIGNED:
                refused = 0  # its handler verifies the body
            case Access.SCHEDULER:
                refused = {"scope": 0, "another scope": 403}.get(self.scheduler, 401)
            case Access.CUSTOMER:
                refused = 401 if self.role is None else 403 if self.foreign and endpoint.unsafe else 0
            case Access.STAFF:
                refused = self._staff(endpoint)
        return refused or endpoint.status

    def _staff(self, endpoint: Endpoint) -> int:
        if self.role is None:
            return 401
        permitted = not endpoint.permission or endpoint.permission in permissions_of(self.role, self.given)
        if self.role is Role.CUSTOMER or not permitted:
            return 403
        return 403 if self.foreign and endpoint.unsafe else 0


PERSONAS = (
    Persona("anonymous"),
    Persona("customer", Role.CUSTOMER, token()),
    Persona("other customer", Role.CUSTOMER, token()),
    *(Persona(f"staff: {role}", role, token(role=role)) for role in Role if role is not Role.CUSTOMER),
    *(
        Persona(f"staff: {each}", Role.MEMBER, token(role=Role.MEMBER, permissions=[each]), given=frozenset({each}))
        for each in Permission
    ),
    Persona("a page elsewhere, with a customer's cookie", Role.CUSTOMER, token(), foreign=True),
    Persona("a page elsewhere, with the owner's cookie", Role.OWNER, token(role=Role.OWNER), foreign=True),
    Persona("expired", bearer=token(role=Role.OWNER, exp=int(time.time()) - 60)),
    Persona("forged", bearer=token(FORGERS, OURS.kid, role=Role.OWNER)),
    Persona("forged, of a key nobody knows", bearer=token(FORGERS, role=Role.OWNER)),
    Persona("unsigned", bearer=unsigned()),
    Persona("nonsense", bearer="nonsense"),
    Persona("wrong audience", bearer=token(role=Role.OWNER, aud="elsewhere")),
    Persona("wrong issuer", bearer=token(role=Role.OWNER, iss="elsewhere")),
    Persona("scheduler", scheduler="scope"),
    Persona("scheduler with another scope", scheduler="another scope"),
    Persona("scheduler, expired", bearer=machine("any", now=time.time() - 600)),
    Persona("scheduler, forged", bearer=machine("any", key=FORGERS)),
)


async def _done(_call: Call, *, status: int) -> Answer:
    return Answer(status=status)


def bare(endpoint: Endpoint) -> Endpoint:
    """The row with everything but who may call it taken away."""
    handler = partial(_done, status=endpoint.status)
    return replace(endpoint, handler=handler, body=None, query=None, key=KeyRule.IGNORED)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def applications() -> AsyncIterator[Mapping[str, Application]]:
    """The services, not started."""
    async with rehearsed() as applications:
        yield applications


@pytest_asyncio.fixture(loop_scope="session")
async def perimeter(database_for: "DatabaseFor", tmp_path: Path) -> Perimeter:
    """Lets one scheduler in."""
    keys = tmp_path / "scheduler.jwks"
    keys.write_bytes(orjson.dumps(KeySet([MACHINES]).as_dict(private=False)))
    return Perimeter(SHOP, (), MachineVerifier((TrustedIssuer(SCHEDULER, keys),), await database_for("admin")))


async def _signing_keys() -> str:
    return orjson.dumps(KeySet([OURS]).as_dict(private=False)).decode()


@pytest.mark.parametrize("persona", PERSONAS, ids=lambda persona: persona.name)
async def test_every_route_lets_in_exactly_whom_its_row_names(
    applications: Mapping[str, Application], perimeter: Perimeter, persona: Persona
) -> None:
    """401 for nobody, 403 for whoever may not, the row's own status for whoever may."""
    authenticate = authenticator(TokenVerifier(_signing_keys), SHOP)
    for service, application in applications.items():
        table = [bare(endpoint) for endpoint in application.endpoints]
        edge = Application(table, authenticate=authenticate).asgi(
            Readiness({}), request_seconds=8.0, perimeter=perimeter
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url=SHOP) as http:
            for endpoint in table:
                path = endpoint.path.replace("{", "").replace("}", "")
                answer = await http.request(endpoint.method, path, headers=persona.headers(endpoint))
                tried = (service, endpoint.method, endpoint.path)
                assert (*tried, answer.status_code) == (*tried, persona.expected(endpoint))


def test_the_personas_tell_the_rows_apart() -> None:
    """A row whose access, or whose permission for staff, were changed to another would be noticed by somebody above."""
    rows = [
        Endpoint("POST", "/", partial(_done, status=200), access=access, permission=permission)
        for access in Access
        for permission in (Permission if access is Access.STAFF else ("",))
    ]
    answers = {tuple(persona.expected(row) for persona in PERSONAS) for row in rows}
    assert len(answers) == len(rows) == len(Access) - 1 + len(Permission)


def services() -> Iterator[ServiceDescriptor]:
    """Every service of the proto."""
    for file in sorted(PROTO.rglob("*_pb2.py")):
        module = ".".join(file.relative_to(PROTO).with_suffix("").parts)
        yield from import_module(module).DESCRIPTOR.services_by_name.values()


RPCS = {service.full_name: service for service in services()}


def test_every_rpc_is_served_by_one_service(applications: Mapping[str, Application]) -> None:
    """What is below is all there is."""
    served = Counter(service.full_name for application in applications.values() for service in application.rpcs)
    # What operators need is served by everybody but admin, who asks.
    operations = "holdfast.common.v1.OperationsService"
    assert served == Counter(dict.fromkeys(RPCS, 1) | {operations: len(applications) - 1})


def _stub(method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
    asked, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)

    async def empty(_request: Any, _context: Any) -> Any:
        return answered()

    return grpc.unary_unary_rpc_method_handler(empty, asked.FromString, lambda message: message.SerializeToString())


def _add(service: ServiceDescriptor, server: grpc.aio.Server) -> None:
    handlers = {method.name: _stub(method) for method in service.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def address(servers: "Servers") -> AsyncIterator[str]:
    """A server with every RPC, each answering an empty message."""
    rpcs = {service: partial(_add, service) for service in RPCS.values()}
    server, _, port = rpc.build_server(rpcs, access_pb2.access, address=f"{HOST}:0", tls=servers.identity("operator"))
    await server.start()
    yield f"{HOST}:{port}"
    await server.stop(0)


async def _status(channel: grpc.aio.Channel, method: MethodDescriptor) -> str:
    call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        await call(GetMessageClass(method.input_type)(), timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


def _callers(method: MethodDescriptor) -> set[str]:
    return set(method.GetOptions().Extensions[access_pb2.access].callers)


@pytest.mark.parametrize("caller", [*SERVICES, OPERATOR])
async def test_every_rpc_answers_exactly_whom_its_proto_names(servers: "Servers", address: str, caller: str) -> None:
    """By the name on the certificate; everybody else is told PERMISSION_DENIED."""
    channel = rpc.channel(address, servers.identity(caller))
    try:
        for service in RPCS.values():
            for method in service.methods:
                allowed = _callers(method) & {caller, rpc.EVERYBODY}
                expected = "OK" if allowed else "PERMISSION_DENIED"
                assert (method.full_name, await _status(channel, method)) == (method.full_name, expected)
    finally:
        await channel.close()


async def test_no_rpc_answers_a_certificate_of_somebody_elses(servers: "Servers", address: str, tmp_path: Path) -> None:
    """The right name signed by another CA, no certificate, no encryption: none gets as far as a call."""
    ensure_certificates(tmp_path)
    ca = (servers.tls / "ca.pem").read_bytes()
    forged = grpc.ssl_channel_credentials(
        ca, (tmp_path / "orders.key").read_bytes(), (tmp_path / "orders.pem").read_bytes()
    )
    async with AsyncExitStack() as stack:
        channels = [
            grpc.aio.secure_channel(address, forged),
            grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca)),
            grpc.aio.insecure_channel(address),
        ]
        for channel in channels:
            stack.push_async_callback(channel.close)
            for service in RPCS.values():
                for method in service.methods:
                    assert await _status(channel, method) == "UNAVAILABLE"


def test_callers_are_services_that_exist() -> None:
    """A misspelt name in the proto would lock its caller out, a wildcard lets the operator in too."""
    named = {caller for service in RPCS.values() for method in service.methods for caller in _callers(method)}
    assert named <= {*SERVICES, OPERATOR, rpc.EVERYBODY}
