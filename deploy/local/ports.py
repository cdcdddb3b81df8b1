"""Every port is an offset from one base, so that systems can run side by side."""

import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from deploy.local.errors import ConfigurationFailure, PortInUse

__all__ = ["HOST", "SERVICES", "Ports", "free_port_base", "is_free", "pick_port_base", "require_free"]

HOST = "127.0.0.1"
SERVICES = ("catalog", "orders", "payments-webhooks", "notifications", "accounts", "admin")
_INFRASTRUCTURE = ("gateway", "gateway admin", "stripe-sandbox", "mailbox", "mailbox SMTP", "postgres", "valkey")
_HTTP, _GRPC = 10, 20
_SPAN = _GRPC + len(SERVICES)
_HIGHEST = 65535


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one system."""

    base: int = 8080

    def __post_init__(self) -> None:
        if not 1 <= self.base <= _HIGHEST - _SPAN:
            raise ConfigurationFailure(
                f"PORT_BASE must be between 1 and {_HIGHEST - _SPAN}, not {self.base}; try PORT_BASE=8080"
            )

    def of(self, part: str) -> int:
        """The port of a part that is no service, by its name in the table above."""
        return self.base + _INFRASTRUCTURE.index(part)

    def http(self, service: str) -> int:
        """The HTTP port of a service."""
        return self.base + _HTTP + SERVICES.index(service)

    def grpc(self, service: str) -> int:
        """The gRPC port of a service."""
        return self.base + _GRPC + SERVICES.index(service)

    def all(self) -> tuple[int, ...]:
        """Every port of the block."""
        infrastructure = tuple(self.of(part) for part in _INFRASTRUCTURE)
        return infrastructure + tuple(port(name) for name in SERVICES for port in (self.http, self.grpc))


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT is free, a port somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def require_free(wanted: Iterable[tuple[int, str]], base: int) -> None:
    """Raises :class:`PortInUse` for the first (port, who wants it) that is taken."""
    for port, who in wanted:
        if not is_free(port):
            raise PortInUse(
                f"port {port} is in use, and {who} needs it: stop what listens there, "
                f"or move every port: PORT_BASE={free_port_base(base)} make up"
            )


def free_port_base(start: int) -> int:
    """The next base in steps of 1000 after `start` whose whole block is free."""
    for base in range(start + 1000, 60_000, 1000):
        if all(map(is_free, Ports(base).all())):
            return base
    return pick_port_base()


def pick_port_base() -> int:
    """A base whose whole block is free now, for a system beside a running one.

    Below the ports that Linux and macOS hand out for outgoing connections, and random, so that two test runs at
    once do not meet.
    """
    for _ in range(200):
        base = random.randrange(12_000, 32_000, 40)  # noqa: S311 - not a secret
        if all(map(is_free, Ports(base).all())):
            return base
    raise PortInUse(f"no block of {_SPAN} free ports between 12000 and 32000: stop what listens there")
