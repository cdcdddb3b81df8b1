"""What sending a campaign costs, against a bare loop over one SMTP connection: `make bench-mail`.

    python -m bench.mail [--recipients 3000] [--audience 1000000]

The loop sends the same number of mails of the same bytes and does nothing else: no database, no recipients, no
ledger. What both have in common is the processor time of *their own* process: the mailbox and PostgreSQL share the
machine, and what they take is theirs. Exit status 1 when a goal is missed.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Final

import aiosmtplib
import orjson
from rich.console import Console
from rich.table import Table

from bench.post_office import SENDER, PostOffice, opened
from deploy.local.ports import HOST, pick_port_base
from services.notifications.mail.domain import Message, Rendered
from services.notifications.mail.mime import compose

_LEAST_SHARE: Final = 0.5
_MOST_MEMORY: Final = 150
_MOST_SECONDS: Final = 30.0
_TICKS: Final = 100.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How many mails, in how many seconds on the clock and of the sender's processor, and its largest memory."""

    mails: int
    wall: float
    cpu: float
    megabytes: float

    @property
    def per_cpu_second(self) -> float:
        """Mails for a second of the sender's processor time."""
        return self.mails / self.cpu

    @property
    def per_second(self) -> float:
        """Mails a second."""
        return self.mails / self.wall


async def loop(port: int, mails: int) -> Figures:
    """The floor: one connection, the same bytes again and again."""
    words = Rendered(
        "Autumn is here", "<p>New coats are in, and your dog has looked at them already.</p>" * 40, "Autumn"
    )
    message = Message("customer1@example.com", words, "<1@holdfast.example>", "flow", datetime.now(UTC))
    content = compose(message, SENDER)
    client = aiosmtplib.SMTP(hostname=HOST, port=port, start_tls=False)
    await client.connect()
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for number in range(mails):
        await client.sendmail(parseaddr(SENDER)[1], [f"customer{number}@example.com"], content)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    await client.quit()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(mails, wall, cpu, after.ru_maxrss / 1024)


async def floor(office: PostOffice, mails: int) -> Figures:
    """The loop in a process of its own."""
    command = [sys.executable, "-m", "bench.mail", "--loop", str(office.smtp), "--recipients", str(mails)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    return Figures(**orjson.loads(told))


async def worker(office: PostOffice, *, resend: bool) -> Figures:
    """One worker that sends a campaign to everybody, from its start on."""
    office.empty()
    campaign = await office.start(resend=resend)
    mails = sum((await office.states(campaign)).values())
    office.hire(1, resend=resend)
    (process,) = office.workers
    async with asyncio.timeout(60):
        while not await office.settled(campaign):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.01)
    settled, cpu, begun = await office.settled(campaign), _cpu(process), time.perf_counter()
    await office.until_finished(campaign, seconds=60 + mails / 10)
    figures = Figures(mails - settled, time.perf_counter() - begun, _cpu(process) - cpu, _most_memory(process))
    office.dismiss()
    states, arrived = await office.states(campaign), office.received()
    if states != {"sent": mails} or len(arrived) != mails or len(set(arrived)) != mails:
        raise AssertionError(f"{mails} recipients, {states}, {len(arrived)} messages to {len(set(arrived))} addresses")
    return figures


async def large(office: PostOffice, audience: int, watched: int) -> tuple[float, Figures]:
    """Seconds to freeze an audience, and what a worker needs while it sends the first of them."""
    known = (await office.row("SELECT count(*) FROM contacts"))["count"]
    await office.contacts(known + 1, audience)
    begun = time.perf_counter()
    campaign = await office.start(resend=True)
    await office.freeze(campaign, resend=True)
    seconds = time.perf_counter() - begun
    found = (await office.row("SELECT recipients FROM campaigns WHERE id = $1", campaign))["recipients"]
    if found != audience:
        raise AssertionError(f"{found} recipients were frozen of {audience}")
    office.empty()
    office.hire(1, resend=True)
    (process,) = office.workers
    begun = time.perf_counter()
    async with asyncio.timeout(300):
        while (sent := await office.settled(campaign)) < watched:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.2)
    figures = Figures(sent, time.perf_counter() - begun, _cpu(process), _most_memory(process))
    office.dismiss()
    return seconds, figures


def _cpu(process: int) -> float:
    """Seconds of processor time, user and system (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _most_memory(process: int) -> float:
    """The largest resident memory so far, in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (most,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(most.split()[1]) / 1024


def _shown(rows: Mapping[str, Figures]) -> Table:
    table = Table("", "mails/s", "mails per CPU second", "memory, MiB")
    for name, each in rows.items():
        table.add_row(name, f"{each.per_second:.0f}", f"{each.per_cpu_second:.0f}", f"{each.megabytes:.0f}")
    return table


async def run(console: Console, recipients: int, audience: int) -> bool:
    """Measures, prints, and says whether every goal was met."""
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), pick_port_base()) as office:
            await office.contacts(1, recipients)
            rows = {
                "one aiosmtplib connection in a loop": await floor(office, recipients),
                "a worker, SMTP": await worker(office, resend=False),
                "a worker, Resend": await worker(office, resend=True),
            }
            name = f"a worker, Resend, audience of {audience:,}"
            seconds, rows[name] = await large(office, audience, watched=recipients)
    console.print(_shown(rows))
    loop_, smtp, resend, flat = rows.values()
    share = smtp.per_cpu_second / loop_.per_cpu_second
    goals = {
        f"SMTP, mails per CPU second against the loop: {share:.2f} (goal {_LEAST_SHARE})": share >= _LEAST_SHARE,
        f"memory: {flat.megabytes:.0f} MiB at {audience:,}, {resend.megabytes:.0f} at {recipients:,} "
        f"(goal {_MOST_MEMORY})": flat.megabytes < _MOST_MEMORY,
        f"freezing {audience:,}: {seconds:.1f} s (goal {_MOST_SECONDS:.0f})": seconds < _MOST_SECONDS,
    }
    for goal, met in goals.items():
        console.print(f"{'[green]met[/]' if met else '[red]missed[/]'}  {goal}")
    return all(goals.values())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.mail")
    parser.add_argument("--recipients", type=int, default=3000)
    parser.add_argument("--audience", type=int, default=1_000_000)
    parser.add_argument("--loop", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        figures = asyncio.run(loop(arguments.loop, arguments.recipients))
        told = {name: getattr(figures, name) for name in Figures.__slots__}
        sys.stdout.write(orjson.dumps(told).decode())
        return
    sys.exit(0 if asyncio.run(run(Console(), arguments.recipients, arguments.audience)) else 1)


if __name__ == "__main__":
    main()
