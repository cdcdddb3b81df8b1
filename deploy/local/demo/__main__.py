"""python -m deploy.local.demo: start the system if needed, buy something the hard way, report.

Exit status 1 when a promise was broken.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console

from deploy.local.demo.report import Report
from deploy.local.demo.story import Story
from deploy.local.errors import LocalError
from deploy.local.progress import display
from deploy.local.state import ROOT
from deploy.local.system import System


def main() -> None:
    """Tells the story on one system and exits with its verdict."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.demo")
    parser.add_argument("--state-dir", type=Path, default=ROOT / ".local")
    parser.add_argument("--port-base", type=int, default=int(os.environ.get("PORT_BASE", "8080")))
    arguments = parser.parse_args()
    console = Console()
    running = System(arguments.state_dir).running()
    system = System(arguments.state_dir, running.port_base if running else arguments.port_base)
    try:
        with display() as shown:
            endpoints = system.start(shown.show)
    except LocalError as error:
        sys.exit(str(error))
    report = Report(console)
    asyncio.run(Story(endpoints, system.state.logs, report).tell())
    sys.exit(report.finish(endpoints))


if __name__ == "__main__":
    main()
