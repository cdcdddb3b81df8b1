"""Head and body of an answer leave together, and the head does not wait for a body that is late."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, Router

from reliability.one_packet import Together
from reliability.slow_headers import impatient

Endpoint = Callable[[Request], Any]


class Wire(asyncio.Transport):
    """Notes what is sent, and in how many pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def writelines(self, list_of_data: Any) -> None:
        """One system call."""
        self.sent.append(b"".join(list_of_data))

    def close(self) -> None:
        """The end."""
        self.sent.append(b"closed")


@asynccontextmanager
async def served(endpoint: Endpoint) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to uvicorn, as services run it."""
    app = Router([Route("/", endpoint)])
    config = uvicorn.Config(app, port=0, http=impatient(30), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        yield reader, writer
    writer.close()
    await server.shutdown()


async def test_what_is_written_in_one_turn_leaves_in_one_piece() -> None:
    """Two writes at a time: no more than one is ever held."""
    wire = Wire()
    together = Together(wire)
    for piece in (b"head ", b"body ", b"more "):
        together.write(piece)
    assert wire.sent == [b"head body "]
    await asyncio.sleep(0)
    assert wire.sent == [b"head body ", b"more "]
    together.write(b"last")
    together.close()
    assert wire.sent[2:] == [b"last", b"closed"]
    await asyncio.sleep(0)
    assert len(wire.sent) == 4


async def test_a_head_does_not_wait_for_its_body() -> None:
    """Whoever streams tells the status first, and the body when there is one."""
    read = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        await read.wait()
        yield b"late"

    async def answer(_request: Request) -> StreamingResponse:
        return StreamingResponse(body(), headers={"content-length": "4"})

    async with served(answer) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        read.set()
        assert await reader.readexactly(4) == b"late"


async def test_answers_keep_their_order_and_the_last_is_whole() -> None:
    """Requests sent at once are answered one after the other; a connection that closes sends all of it before."""

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.query_params["n"])

    async with served(answer) as (reader, writer):
        writer.write(b"GET /?n=1 HTTP/1.1\r\nHost: a\r\n\r\nGET /?n=2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        first, second = (await reader.read()).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert (first[-1:], second[-1:]) == (b"1", b"2")
