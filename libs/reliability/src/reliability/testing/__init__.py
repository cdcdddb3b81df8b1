"""Parts for tests of services that must survive faults."""

from reliability.testing.clock import FakeClock
from reliability.testing.crash import CrashPoints
from reliability.testing.invariants import Broken, Invariants
from reliability.testing.proxy import FaultProxy

__all__ = ["Broken", "CrashPoints", "FakeClock", "FaultProxy", "Invariants"]
