"""Prints the tree of one correlation or trace id from the running system: `make trace ID=...`."""

import asyncio
import re
import sys
from pathlib import Path

import httpx
from rich.console import Console

from deploy.local.demo.report import Report
from deploy.local.demo.shopper import Staff
from deploy.local.demo.tree import build
from deploy.local.errors import LocalError
from deploy.local.state import read_text, write_private
from deploy.local.system import System


async def show(wanted: str) -> int:
    """Looks the id up, as a trace id when it looks like one, and draws what it finds."""
    system = System()
    staff = Staff(system.endpoints)
    try:
        await _sign_in(staff, system.state.session)
        staff.http.event_hooks["response"].append(_refuse)
        traces = await staff.trace(wanted) if re.fullmatch(r"[0-9a-f]{32}", wanted) else []
        if not traces and re.fullmatch(r"[A-Za-z0-9._-]{1,128}", wanted):  # no other text is ever a correlation id
            traces = await staff.traces(wanted)
    finally:
        await staff.close()
    found = [trace for trace in traces if "spans" in trace]  # one may be forgotten between the list and itself
    if not found:
        print(f"nothing is known of {wanted!r}: spans are kept for seven days, and arrive seconds after the fact")
        return 1
    Report(Console()).tree(build(found))
    return 0


async def _sign_in(staff: Staff, kept: Path) -> None:
    """Goes on with the session of last time while it is good: nobody may log in more than a few times in a while."""
    token = read_text(kept)
    if not (token and await staff.go_on(token)):
        write_private(kept, await staff.sign_in())


async def _refuse(answer: httpx.Response) -> None:
    """404 is an answer; every other refusal ends the search."""
    if answer.status_code != 404:
        answer.raise_for_status()


def main() -> None:
    """The command line."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("say which: make trace ID=<correlation or trace id>")
    try:
        sys.exit(asyncio.run(show(sys.argv[1])))
    except LocalError as error:
        sys.exit(str(error))
    except httpx.HTTPStatusError as error:
        wait = error.response.headers.get("retry-after")
        later = f"; try again in {wait} s" if wait else ""
        sys.exit(f"{error.request.url.path} answered {error.response.status_code}{later}")
    except httpx.TransportError as error:
        sys.exit(f"{error.request.url} does not answer: make status")


if __name__ == "__main__":
    main()
