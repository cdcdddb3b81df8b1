"""Is it ready? Each probe is one quick question that answers False rather than raising."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import asyncpg

from deploy.local.errors import ConfigurationFailure
from deploy.local.ports import HOST
from deploy.local.specs import Probe

__all__ = ["http_lives", "http_ok", "postgres_answers", "until_routed", "valkey_answers"]

_ROUTED_SECONDS = 20.0
_PATIENCE = 2.0  # seconds for one question
_LONG_PATIENCE = 5.0


def http_ok(port: int, path: str, patience: float = _PATIENCE) -> Probe:
    """Whether GET answers 200 within `patience` seconds."""
    question = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode()

    async def ask() -> bool:
        answer = await _exchange(port, question, patience=patience)
        return answer.split(b" ")[1:2] == [b"200"]

    return ask


def http_lives(port: int) -> Probe:
    """Whether the process answers at all; a machine that is short of breath is given time for it."""
    return http_ok(port, "/livez", _LONG_PATIENCE)


async def until_routed(port: int, paths: Iterable[str]) -> None:
    """Waits until the gateway has noticed that the service behind each path is there; the start's own limit ends it."""
    for path in paths:
        question = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode()
        async with asyncio.timeout(_ROUTED_SECONDS):
            # Envoy looks by itself, there is nothing to wait on.
            while (await _exchange(port, question)).split(b" ")[1:2] in ([], [b"503"]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def valkey_answers(port: int, password: str) -> Probe:
    """Whether it lets us in and answers PING."""
    question = f"AUTH {password}\r\nPING\r\n".encode()

    async def ask() -> bool:
        return await _exchange(port, question, lines=2) == b"+OK\r\n+PONG\r\n"

    return ask


def postgres_answers(url: str) -> Probe:
    """Whether it accepts connections."""

    async def ask() -> bool:
        try:
            connection = await asyncpg.connect(url, timeout=_PATIENCE)
        except asyncpg.InvalidPasswordError as error:
            raise ConfigurationFailure(
                "PostgreSQL refuses the password in secrets.json, which is not the one its data was made with: "
                "put the old file back, or start again without data: python -m deploy.local up --fresh"
            ) from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close(timeout=_PATIENCE)
        return True

    return ask


async def _exchange(port: int, question: bytes, lines: int = 1, patience: float = _PATIENCE) -> bytes:
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(question)
                return b"".join([await reader.readline() for _ in range(lines)])
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return b""
