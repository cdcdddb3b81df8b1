"""Parts for tests of services that must survive faults."""

from reliability.testing.proxy import FaultProxy

__all__ = ["FaultProxy"]
