"""Prints the tree of one correlation or trace id from the running system: `make trace ID=...`."""

import asyncio
import re
import sys

from rich.console import Console

from deploy.local.demo.report import Report
from deploy.local.demo.shopper import Staff
from deploy.local.demo.tree import build
from deploy.local.errors import LocalError
from deploy.local.system import System


async def show(wanted: str) -> int:
    """Looks the id up, as a trace id when it looks like one, and draws what it finds."""
    staff = Staff(System().endpoints)
    try:
        await staff.sign_in()
        traces = await staff.trace(wanted) if re.fullmatch(r"[0-9a-f]{32}", wanted) else []
        traces = traces or await staff.traces(wanted)
    finally:
        await staff.close()
    if not traces:
        print(f"nothing is known of {wanted!r}: spans are kept for seven days, and arrive a second after the fact")
        return 1
    Report(Console()).tree(build(traces))
    return 0


def main() -> None:
    """The command line."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("say which: make trace ID=<correlation or trace id>")
    try:
        sys.exit(asyncio.run(show(sys.argv[1])))
    except LocalError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
