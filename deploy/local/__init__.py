"""The whole system on one machine: no Docker, no root, everything from pip wheels.

`python -m deploy.local up|down|status|logs|restart`, or, for tests and tools, :class:`System`.
"""

from deploy.local.endpoints import Endpoints
from deploy.local.errors import LocalError
from deploy.local.ports import Ports, pick_port_base
from deploy.local.system import System

__all__ = ["Endpoints", "LocalError", "Ports", "System", "pick_port_base"]
