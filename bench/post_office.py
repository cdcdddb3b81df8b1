"""Notifications' workers, the mailbox and a database, each a process of its own: for benches and for chaos."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import orjson

import services.notifications as package
from deploy.local.credentials import load_secrets
from deploy.local.databases import database_of, database_url, owner_of, runtime_role_of
from deploy.local.ports import HOST, Ports
from deploy.local.system import System
from reliability.jobs import Job, Worker
from reliability.migrations import PARTS, migrate
from reliability.postgres import Database
from services.notifications.campaigns.domain import Started
from services.notifications.campaigns.service import FREEZE, CampaignService
from services.notifications.mail.resend import ResendMailer
from services.notifications.mail.templates import Templates
from services.notifications.schemas import AudienceFilter, CampaignDraft

__all__ = ["CONCURRENCY", "SENDER", "PostOffice", "opened"]

SENDER: Final = "Holdfast <shop@holdfast.example>"
_NAME: Final = "notifications"
CONCURRENCY: Final = 8
"""How many jobs a worker runs at once."""
_BATCH: Final = 50
_CONTACTS = """
INSERT INTO contacts (id, email, name, marketing_consent, changed_at)
SELECT uuidv7(), 'customer' || n || '@example.com', 'Customer ' || n, true, now()
  FROM generate_series($1::int, $2::int) AS n
"""


@dataclass
class PostOffice:
    """Where everything is. `lanes` is how many batches of a campaign are on their way at once."""

    system: System
    url: str
    database: Database
    folder: Path
    smtp: int
    http: int
    lanes: int
    workers: list[int] = field(default_factory=list)
    forks: "subprocess.Popen[str] | None" = None

    def hire(self, count: int, *, resend: bool, lease: float = 30.0) -> None:
        """Starts workers that send over SMTP, or through the stand-in for Resend."""
        self.dismiss()
        self.forks = subprocess.Popen(
            [sys.executable, "-m", "bench.fork_worker"],
            env=self._environment(resend=resend, lease=lease),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "workers.log").open("ab"),
            text=True,
        )
        for _ in range(count):
            self.spawn()

    def spawn(self) -> int:
        """One more worker; its process id."""
        assert self.forks is not None
        assert self.forks.stdin is not None
        assert self.forks.stdout is not None
        self.forks.stdin.write("spawn\n")
        self.forks.stdin.flush()
        self.workers.append(int(self.forks.stdout.readline()))
        return self.workers[-1]

    def kill(self, worker: int) -> None:
        """`kill -9`; it is the last thing it hears of us."""
        self.workers.remove(worker)
        os.kill(worker, signal.SIGKILL)

    def dismiss(self) -> None:
        """Ends every worker."""
        if self.forks is not None:
            assert self.forks.stdin is not None
            self.forks.stdin.close()
            self.forks.wait(timeout=30)
        self.forks = None
        self.workers.clear()

    async def contacts(self, first: int, last: int) -> None:
        """Consenting contacts with these numbers."""
        connection = await asyncpg.connect(self.url)  # the pool's statements have ten seconds
        try:
            await connection.execute(_CONTACTS, first, last)
            await connection.execute("ANALYZE contacts")
        finally:
            await connection.close()

    def campaigns(self, *, resend: bool) -> CampaignService:
        """What staff's clicks end up in."""
        size = ResendMailer.size if resend else _BATCH
        nobody: Any = None  # sends no single mails
        return CampaignService(
            self.database, Templates(), nobody, domain="holdfast.example", batch_size=size, lanes=self.lanes
        )

    async def start(self, *, resend: bool) -> str:
        """Drafts a campaign to everybody and sends it; its id."""
        campaigns = self.campaigns(resend=resend)
        draft = CampaignDraft(
            name="Autumn",
            subject="Autumn is here",
            html="<p>New coats are in, and your dog has looked at them already.</p>" * 5,
            audience=AudienceFilter(all=True),
            staff_id="staff-1",
        )
        campaign: str = await campaigns.create(draft, lambda campaign_id: campaign_id)
        started: Started = await campaigns.send(campaign, "staff-1", None, lambda answer: answer)
        return started.id

    async def freeze(self, campaign: str, *, resend: bool) -> None:
        """What is left of the freezing, in this process."""
        campaigns, worker = self.campaigns(resend=resend), Worker(self.database)

        async def go_on(job: Job) -> None:
            await campaigns.freeze_on(job, job.payload["campaign_id"])

        worker.handle(FREEZE, go_on, timeout=300.0)
        await worker.run_until_idle()
        assert (await self.row("SELECT frozen FROM campaigns WHERE id = $1", campaign))["frozen"]

    async def row(self, statement: str, *values: object) -> dict[str, Any]:
        """One row."""
        async with self.database.connection() as connection:
            found = await connection.fetchrow(statement, *values)
        assert found is not None
        return dict(found)

    async def states(self, campaign: str) -> Mapping[str, int]:
        """Recipients by state."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT state, count(*) FROM campaign_recipients WHERE campaign_id = $1 GROUP BY state", campaign
            )
        return {row["state"]: row["count"] for row in rows}

    async def settled(self, campaign: str) -> int:
        """How many recipients nothing more will be done for."""
        found = await self.row(
            "SELECT count(*) FROM campaign_recipients WHERE campaign_id = $1 AND settled_at IS NOT NULL", campaign
        )
        return int(found["count"])

    async def finished(self, campaign: str) -> bool:
        """Whether every recipient's fate is sealed."""
        return bool((await self.row("SELECT status FROM campaigns WHERE id = $1", campaign))["status"] == "finished")

    async def until_finished(self, campaign: str, *, seconds: float) -> None:
        """Waits for it. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while not await self.finished(campaign):  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(0.1)

    def received(self) -> list[str]:
        """The addresses that messages arrived at, one for each message."""
        with sqlite3.connect(self.folder / "mailbox.db") as store:
            return [
                address for (to,) in store.execute("SELECT recipients FROM messages") for address in orjson.loads(to)
            ]

    def empty(self) -> None:
        """Takes every message out of the mailbox."""
        with sqlite3.connect(self.folder / "mailbox.db", timeout=30) as store:
            store.execute("DELETE FROM messages")

    def _environment(self, *, resend: bool, lease: float) -> dict[str, str]:
        tls = self.system.state.tls
        values = {
            "HTTP_PORT": "1",
            "GRPC_PORT": "1",
            "DATABASE_URL": self.url,
            "REDIS_URL": self.system.endpoints.redis,
            "ACCOUNTS_GRPC": f"{HOST}:1",
            "ADMIN_GRPC": f"{HOST}:1",
            "TLS_CA_FILE": str(tls / "ca.pem"),
            "TLS_CERT_FILE": str(tls / f"{_NAME}.pem"),
            "TLS_KEY_FILE": str(tls / f"{_NAME}.key"),
            "MAIL_URL": f"resend+http://re_test@{HOST}:{self.http}" if resend else f"smtp://{HOST}:{self.smtp}",
            "MAIL_FROM": SENDER,
            "LINK_SECRET": "a secret of thirty-two characters",
            "CAMPAIGN_LANES": str(self.lanes),
            "CAMPAIGN_BATCH": str(_BATCH),
            "CAMPAIGN_RATE": "10000",
            "WORKER_LEASE_SECONDS": str(lease),
            "WORKER_CONCURRENCY": str(CONCURRENCY),
            "LOG_LEVEL": "error",
        }
        return {**_inherited(), **values}


def _inherited() -> dict[str, str]:
    """What a child needs of our own environment: none of it may name another database."""
    return {
        name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR"}
    }


@asynccontextmanager
async def opened(folder: Path, port_base: int, *, lanes: int = 2) -> AsyncIterator[PostOffice]:
    """Starts it all, and ends all of it. Ports from `port_base` up are taken."""
    with System(folder / "state", port_base, only=("postgres", "valkey")) as system:
        secrets, name = load_secrets(system.state), database_of(_NAME)
        server = system.endpoints.postgres
        owner = database_url(server, name, owner_of(_NAME), secrets.owner_passwords[_NAME])
        if await asyncio.to_thread(migrate, owner, Path(package.__path__[0]) / "migrations", PARTS):
            raise RuntimeError("notifications' tables could not be made")
        url = database_url(server, name, runtime_role_of(_NAME), secrets.runtime_passwords[_NAME])
        smtp, http = Ports(port_base).of("mailbox SMTP"), Ports(port_base).of("mailbox")
        mailbox = subprocess.Popen(  # noqa: ASYNC220 - a moment, once
            [sys.executable, "-m", "sandbox.mailbox"],
            env=_inherited()
            | {
                "HTTP_PORT": str(http),
                "SMTP_PORT": str(smtp),
                "STATE_FILE": str(folder / "mailbox.db"),
                "RESEND_REQUESTS_PER_SECOND": "1000",
            },
        )
        office = PostOffice(system, url, Database(url, size=8, application="bench"), folder, smtp, http, lanes)
        try:
            await asyncio.to_thread(_wait_for, http)
            yield office
        finally:
            office.dismiss()
            await office.database.close()
            mailbox.terminate()
            mailbox.wait(timeout=30)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"http://{HOST}:{port}/livez").raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
