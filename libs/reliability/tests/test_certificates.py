"""Certificates are renewed under running servers and channels, and no call is lost."""

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from deploy.local.certificates import ensure_certificates
from deploy.local.ports import HOST
from holdfast.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from holdfast.common.v1 import access_pb2
from reliability import rpc
from reliability.rpc.channel import RenewingChannel
from reliability.testing import FakeClock

REQUEST = catalog_pb2.GetVariantsRequest()


class Peer(catalog_pb2_grpc.CatalogServiceServicer):
    """Remembers its callers' certificates; answers after `gate` is open, when there is one."""

    def __init__(self) -> None:
        self.gate: asyncio.Event | None = None
        self.inside = asyncio.Event()
        self.callers: list[bytes] = []

    async def GetVariants(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.callers.append(context.auth_context()["x509_pem_cert"][0])
        if self.gate is not None:
            self.inside.set()
            await self.gate.wait()
        return catalog_pb2.GetVariantsResponse()


class Wire:
    """A server and a caller whose files are in one folder."""

    def __init__(self, folder: Path) -> None:
        ensure_certificates(folder)
        self.folder, self.peer, self.port = folder, Peer(), 0  # type: ignore[abstract]
        self.caller = self.tls("orders")

    def tls(self, name: str) -> rpc.Tls:
        return rpc.Tls(self.folder / "ca.pem", self.folder / f"{name}.pem", self.folder / f"{name}.key")

    def renew(self, *, authority: bool = False) -> None:
        """New keys and certificates for everybody; with `authority`, of a new CA."""
        for file in self.folder.iterdir():
            if authority or not file.name.startswith("ca."):
                file.unlink()
        ensure_certificates(self.folder)

    async def ask(self, channel: grpc.aio.Channel) -> None:
        stub: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        await rpc.invoke(stub.GetVariants, REQUEST, step="catalog.GetVariants", attempts=1)

    async def shown(self) -> str:
        """The server's certificate, as a new connection gets it."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        context.load_cert_chain(self.folder / "orders.pem", self.folder / "orders.key")
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection(HOST, self.port, ssl=context)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return ssl.DER_cert_to_PEM_cert(certificate)

    def on_disk(self, name: str) -> str:
        return (self.folder / f"{name}.pem").read_text()


@pytest_asyncio.fixture(loop_scope="session")
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    wire = Wire(tmp_path)
    service = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
    add = partial(catalog_pb2_grpc.add_CatalogServiceServicer_to_server, wire.peer)
    server, _, wire.port = rpc.build_server(
        {service: add}, access_pb2.access, address=f"{HOST}:0", tls=wire.tls("catalog")
    )
    await server.start()
    yield wire
    await server.stop(0)


@pytest_asyncio.fixture(loop_scope="session")
async def channel(wire: Wire) -> AsyncIterator[grpc.aio.Channel]:
    """One that looks at the files with each call, for a second lies between any two."""
    channel = RenewingChannel(f"{HOST}:{wire.port}", wire.caller, now=itertools.count().__next__)
    yield channel
    await channel.close()


@pytest.mark.parametrize("authority", [False, True], ids=["certificates", "CA too"])
async def test_a_running_server_and_a_running_channel_take_what_is_new(
    wire: Wire, channel: grpc.aio.Channel, authority: bool
) -> None:
    """The next connection shows the new certificate on both sides; nobody was restarted."""
    await wire.ask(channel)
    assert await wire.shown() == wire.on_disk("catalog")
    before = wire.on_disk("catalog")
    wire.renew(authority=authority)
    await wire.ask(channel)
    assert await wire.shown() == wire.on_disk("catalog") != before
    first, second = wire.peer.callers
    assert second.decode() == wire.on_disk("orders") != first.decode()


async def test_a_call_in_flight_ends_where_it_began(wire: Wire, channel: grpc.aio.Channel) -> None:
    """Files change under it, later calls go over a new connection, and it is still answered."""
    wire.peer.gate = asyncio.Event()
    slow = asyncio.create_task(wire.ask(channel))
    await wire.peer.inside.wait()
    gate, wire.peer.gate = wire.peer.gate, None
    wire.renew(authority=True)
    await wire.ask(channel)
    assert not slow.done()
    gate.set()
    await slow
    first, second = wire.peer.callers
    assert first != second


async def test_files_are_looked_at_once_a_second(wire: Wire) -> None:
    """Calls that come within the second go the way of the one before; the first after it takes what is new."""
    clock = FakeClock()
    channel = RenewingChannel(f"{HOST}:{wire.port}", wire.caller, now=clock)
    await wire.ask(channel)
    wire.renew()
    await wire.ask(channel)
    clock.advance(1.0)
    await wire.ask(channel)
    first, second, third = wire.peer.callers
    assert first == second != third
    await channel.close()


async def test_no_call_is_lost_while_certificates_change(wire: Wire, channel: grpc.aio.Channel) -> None:
    """Ten callers that never pause, five renewals: every call is answered, without a second attempt."""
    stop = asyncio.Event()

    async def calling() -> int:
        count = 0
        while not stop.is_set():
            await wire.ask(channel)
            count += 1
        return count

    callers = [asyncio.create_task(calling()) for _ in range(10)]
    for number in range(5):
        while len(set(wire.peer.callers)) <= number and not any(caller.done() for caller in callers):
            await asyncio.sleep(0)
        await asyncio.to_thread(wire.renew)
    stop.set()
    assert sum(await asyncio.gather(*callers)) == len(wire.peer.callers)
    assert len(set(wire.peer.callers)) >= 5


async def test_files_that_do_not_fit_together_are_left_alone(wire: Wire, channel: grpc.aio.Channel) -> None:
    """Between the two writes of a renewal, and when a file is gone, the old identity goes on."""
    identity, old = wire.tls("orders"), wire.on_disk("orders")
    assert identity.material.certificate.decode() == old
    key = wire.folder / "orders.key"
    kept = key.read_bytes()
    wire.renew()
    new, new_key = wire.on_disk("orders"), key.read_bytes()
    key.write_bytes(kept)
    assert identity.material.certificate.decode() == old
    await wire.ask(channel)
    key.unlink()
    assert identity.material.certificate.decode() == old
    await wire.ask(channel)
    key.write_bytes(new_key)
    assert identity.material.certificate.decode() == new


def test_a_process_with_broken_files_does_not_start(tmp_path: Path) -> None:
    """There is nothing older to go on with."""
    ensure_certificates(tmp_path)
    (tmp_path / "orders.key").write_bytes((tmp_path / "catalog.key").read_bytes())
    identity = rpc.Tls(tmp_path / "ca.pem", tmp_path / "orders.pem", tmp_path / "orders.key")
    with pytest.raises(ssl.SSLError):
        identity.server_credentials()
