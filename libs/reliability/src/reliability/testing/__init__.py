"""Parts for tests of services that must survive faults."""

from reliability.testing.clock import FakeClock
from reliability.testing.crash import CrashPoints
from reliability.testing.proxy import FaultProxy

__all__ = ["CrashPoints", "FakeClock", "FaultProxy"]
