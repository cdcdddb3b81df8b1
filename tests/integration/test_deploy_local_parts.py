"""The parts of the local system one by one: supervision with stand-in processes, certificates, plan, logs."""

import asyncio
import io
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from deploy.local import Ports, managed
from deploy.local.certificates import OPERATOR, ensure_certificates, ensure_signing_key
from deploy.local.credentials import load_secrets
from deploy.local.errors import ConfigurationFailure, NotReady
from deploy.local.events import Event
from deploy.local.external import External, base_environment, notices
from deploy.local.logs import read, show
from deploy.local.managed import Backoff
from deploy.local.pids import ProcessId
from deploy.local.ports import SERVICES
from deploy.local.specs import Action, Command, Job, Process, Stage, Step
from deploy.local.state import StateDir
from deploy.local.supervisor import Supervisor
from deploy.local.topology import PARTS, SEEDED, Site, choose

# Writes "<name> up", and "<name> down" when asked to stop; the supervisor's probe looks for the first.
STAND_IN = """
import pathlib, signal, sys
journal = open(sys.argv[2], 'a', buffering=1)
def stop(*_):
    journal.write(sys.argv[1] + ' down\\n'); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
journal.write(sys.argv[1] + ' up\\n')
while True: signal.pause()
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A fresh state directory."""
    created = StateDir(tmp_path)
    created.create()
    return created


def command(script: str, *arguments: str) -> Command:
    """A Python one-liner."""
    return Command((sys.executable, "-c", script, *arguments), {"PATH": "/usr/bin:/bin"})


def says(path: Path, text: str) -> Callable[[], Awaitable[bool]]:
    """A probe that is true once a file holds the text."""

    async def probe() -> bool:
        return path.exists() and text in path.read_text()

    return probe


def stand_in(name: str, journal: Path, stage: Stage = Stage.SERVICES, after: tuple[str, ...] = ()) -> Process:
    """A process that behaves."""
    ready = says(journal, f"{name} up\n")
    return Process(name, command(STAND_IN, name, str(journal)), ready, stage, (), after)


@asynccontextmanager
async def supervised(plan: tuple[Step, ...], state: StateDir) -> AsyncIterator[Supervisor]:
    """Starts a plan and stops it whatever happens."""
    supervisor = Supervisor(plan, state, lambda _event: None, lambda: None)
    try:
        await supervisor.start()
        yield supervisor
    finally:
        await supervisor.stop()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for what another process brings about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_order_of_start_and_stop(state: StateDir, tmp_path: Path) -> None:
    """A step waits for those it names; stopping goes from the edge to the data."""
    journal = tmp_path / "journal"

    async def prepare() -> None:
        journal.write_text("prepared\n")

    plan = (
        stand_in("gateway", journal, Stage.EDGE, after=("catalog",)),
        stand_in("catalog", journal, Stage.SERVICES, after=("migrate",)),
        Job("migrate", command("open(__import__('sys').argv[1], 'a').write('migrated\\n')", str(journal)), ("data",)),
        stand_in("data", journal, Stage.DATA, after=("prepare",)),
        Action("prepare", prepare),
    )
    async with supervised(plan, state):
        pass
    assert journal.read_text().splitlines() == [
        *("prepared", "data up", "migrated", "catalog up", "gateway up"),
        *("gateway down", "catalog down", "data down"),
    ]


async def test_what_crashes_is_started_again_and_takes_its_children_along(state: StateDir, tmp_path: Path) -> None:
    """A crash is repaired and recorded; nothing that the dead process had started lives on."""
    journal = tmp_path / "journal"
    script = (
        "import subprocess, sys, signal; child = subprocess.Popen(['sleep', '60']); "
        "open(sys.argv[1], 'a').write(f'{child.pid}\\n'); signal.pause()"
    )
    plan = (Process("worker", command(script, str(journal)), says(journal, "\n"), Stage.SERVICES, ()),)
    async with supervised(plan, state) as supervisor:
        grandchild = ProcessId.of(int(journal.read_text()))
        assert grandchild is not None
        first = supervisor.pids()["worker"]
        leader = ProcessId.of(first)
        assert leader is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.pids()["worker"] != first)
        assert not leader.alive()
        await until(lambda: not grandchild.alive())
        record = json.loads(state.processes.read_text())["worker"]
        assert (record["pid"], record["restarts"]) == (supervisor.pids()["worker"], 1)


async def test_what_hangs_is_killed_and_started_again(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is there and answers nobody is as bad as one that is gone; one missed answer is no proof."""
    monkeypatch.setattr(managed, "ALIVE_SECONDS", 0.01)
    monkeypatch.setattr(managed, "ALIVE_MISSES", 3)
    answers, hung = [True, False, False], set[int]()

    async def alive() -> bool:
        return answers.pop(0) if answers else supervisor.pids()["worker"] not in hung

    journal = tmp_path / "journal"
    ready = says(journal, "worker up\n")
    worker = Process("worker", command(STAND_IN, "worker", str(journal)), ready, Stage.SERVICES, (), alive=alive)
    async with supervised((worker,), state) as supervisor:
        first = supervisor.pids()["worker"]
        await until(lambda: not answers)
        assert supervisor.pids()["worker"] == first
        os.kill(first, signal.SIGSTOP)  # deaf to SIGTERM, as what hangs may be
        hung.add(first)
        await until(lambda: json.loads(state.processes.read_text())["worker"]["pid"] != first)
        assert json.loads(state.processes.read_text())["worker"]["restarts"] == 1


async def test_one_that_ignores_the_order_to_stop_is_killed(state: StateDir, tmp_path: Path) -> None:
    """A process gets its time to drain and no more."""
    ready = tmp_path / "ready"
    script = "import signal, sys; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w').write('x'); signal.pause()"
    deaf = Process("deaf", command(script, str(ready)), says(ready, "x"), Stage.SERVICES, (), stop_seconds=0.2)
    async with supervised((deaf,), state) as supervisor:
        process = ProcessId.of(supervisor.pids()["deaf"])
        assert process is not None
    assert not process.alive()


async def test_not_ready_in_time_shows_the_last_lines(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear line naming the process, with the last 15 lines of its log."""
    monkeypatch.setattr(managed, "READY_SECONDS", 0.5)
    script = "import signal; print('\\n'.join(f'line {n}' for n in range(40)), flush=True); signal.pause()"

    async def never() -> bool:
        return False

    with pytest.raises(NotReady, match="slow was not ready after") as failure:
        async with supervised((Process("slow", command(script), never, Stage.SERVICES, ()),), state):
            pass
    assert failure.value.log_tail == tuple(f"line {n}" for n in range(25, 40))


@pytest.mark.parametrize(("code", "starts"), [(78, 1), (1, 3)])
async def test_one_that_cannot_start_is_not_tried_for_ever(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, code: int, starts: int
) -> None:
    """Bad settings (EX_CONFIG) end the start at once, other early exits after three attempts."""
    monkeypatch.setattr(Backoff, "after", lambda _self, _uptime: 0.01)

    async def never() -> bool:
        return False

    failing = Process("failing", command(f"print('started'); exit({code})"), never, Stage.SERVICES, ())
    with pytest.raises(NotReady, match=f"failing ended while starting \\(exit code {code}\\)") as failure:
        async with supervised((failing,), state):
            pass
    assert failure.value.log_tail == ("started",) * starts


async def test_a_failed_job_stops_the_start(state: StateDir, tmp_path: Path) -> None:
    """What comes after a failed migration is never started, and its output is shown."""
    journal = tmp_path / "journal"
    plan = (
        Job("migrate", command("import sys; sys.exit('no such column')")),
        stand_in("service", journal, after=("migrate",)),
    )
    with pytest.raises(NotReady, match="migrate failed") as failure:
        async with supervised(plan, state):
            pass
    assert failure.value.log_tail == ("no such column",)
    assert not journal.exists()


def test_backoff_doubles_to_a_cap_and_forgets() -> None:
    """0.2 s up to 5 s; a process that was up for 10 s starts over."""
    backoff = Backoff()
    assert [backoff.after(0.0) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.after(10.0) == 0.2


def handshake(tls: Path, server: str, client: str, name: str, ca: Path) -> str:
    """A mutual TLS handshake in memory; gives the client's name as the server sees it."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_cert_chain(tls / f"{server}.pem", tls / f"{server}.key")
    calling = ssl.create_default_context(cafile=ca)
    calling.load_cert_chain(tls / f"{client}.pem", tls / f"{client}.key")
    ends = [
        calling.wrap_bio(back, there, server_hostname=name),
        serving.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = ends[1].getpeercert()
    assert certificate
    subject = certificate["subject"]
    assert isinstance(subject, tuple)
    return str(subject[0][0][1])


@pytest.mark.parametrize("name", ["localhost", "catalog", "catalog-grpc", "127.0.0.1"])
def test_certificates_verify_both_ways(state: StateDir, name: str) -> None:
    """Each service is known by its name, under every name it is called by."""
    ensure_certificates(state.tls)
    assert handshake(state.tls, "catalog", "orders", name, state.tls / "ca.pem") == "orders"
    assert handshake(state.tls, "catalog", OPERATOR, name, state.tls / "ca.pem") == OPERATOR


def test_a_certificate_of_another_authority_is_refused(state: StateDir, tmp_path: Path) -> None:
    """Two systems on one machine do not let each other in."""
    ensure_certificates(state.tls)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ensure_certificates(elsewhere)
    with pytest.raises(ssl.SSLError):
        handshake(state.tls, "catalog", "orders", "localhost", elsewhere / "ca.pem")


def test_certificates_are_renewed_in_time_and_not_before(state: StateDir) -> None:
    """Kept while more than 30 days are left, made anew after that, CA included."""
    now = datetime.now(UTC)
    ensure_certificates(state.tls, now)
    ensure_signing_key(state.tls / "signing.key")
    first = {path.name: path.read_bytes() for path in state.tls.iterdir()}
    ensure_certificates(state.tls, now + timedelta(days=334))
    ensure_signing_key(state.tls / "signing.key")
    assert {path.name: path.read_bytes() for path in state.tls.iterdir()} == first
    ensure_certificates(state.tls, now + timedelta(days=336))
    assert {path.name for path in state.tls.iterdir() if path.read_bytes() == first[path.name]} == {"signing.key"}
    certificate = x509.load_pem_x509_certificate((state.tls / "admin.pem").read_bytes())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "admin"


@pytest.fixture
def site(state: StateDir) -> Site:
    """The system that an empty environment asks for."""
    return Site(state, Ports(20000), load_secrets(state), External(), {"PATH": "/usr/bin:/bin"})


def test_the_plan_is_whole(site: Site) -> None:
    """Every part is planned; each service is migrated before it serves and has its own secrets only."""
    plan = {step.name: step for step in site.plan()}
    assert set(PARTS) <= set(plan)
    for service in SERVICES:
        process, migration = plan[service], plan[f"migrate {service}"]
        assert isinstance(process, Process)
        assert isinstance(migration, Job)
        before = f"seed {service}" if service in SEEDED else migration.name
        assert before in process.after
        assert process.alive is not process.ready  # a service without its database must not be killed for it
        assert migration.name in (*process.after, *getattr(plan[before], "after", ()))
        assert "MIGRATION_DATABASE_URL" not in process.command.environment
        text = " ".join(process.command.environment.values())
        foreign = [password for name, password in site.secrets.runtime_passwords.items() if name != service]
        foreign += [*site.secrets.owner_passwords.values(), site.secrets.postgres_password]
        assert not any(secret in text for secret in foreign)
        assert ("STRIPE_API_KEY" in process.command.environment) == (service == "payments-webhooks")


@pytest.mark.parametrize(("folder", "host"), [("/data/a b", "%2Fdata%2Fa%20b"), ("/" + "long/" * 20, "127.0.0.1")])
def test_services_use_the_socket_of_the_embedded_database(site: Site, folder: str, host: str) -> None:
    """It is cheaper than TCP, which is there for everybody else and where the path is longer than a socket's may be."""
    server = replace(site.postgres, folder=Path(folder))
    assert server.local_url == server.url.replace("@127.0.0.1:", f"@{host}:")
    assert f"@127.0.0.1:{server.port}/" in server.url
    catalog = site.service_environment("catalog")["DATABASE_URL"]
    assert urlsplit(catalog).netloc.rpartition("@")[2] == urlsplit(site.postgres.local_url).netloc.rpartition("@")[2]


def test_only_takes_what_is_needed(site: Site) -> None:
    """A part brings along what it waits for; an unknown one is an error that names the known ones."""
    names = {step.name for step in choose(site.plan(), ("catalog",))}
    assert names == {"database files", "postgres", "databases", "valkey", "migrate catalog", "seed catalog", "catalog"}
    with pytest.raises(ConfigurationFailure, match="no such part: catalogue; there are postgres"):
        choose(site.plan(), ("catalogue",))


def test_the_environment_replaces_parts(site: Site) -> None:
    """A given address takes the place of our own process and reaches those who need it, and nobody else."""
    given = {
        "DATABASE_URL": "postgresql://root:word@db.example:5432/postgres?sslmode=require",
        "REDIS_URL": "redis://cache.example:6379/1",
        "STRIPE_API_BASE": "https://stripe.example",
        "STRIPE_API_KEY": "sk_test_1",
        "STRIPE_WEBHOOK_SECRET": "whsec_1,whsec_2",
        "MAIL_URL": "smtp://mail.example:25",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318",
    }
    environment = {**given, "PATH": "/usr/bin:/bin"}
    replaced = Site(site.state, site.ports, site.secrets, External.of(environment), base_environment(environment))
    processes = {step.name: step for step in replaced.plan() if isinstance(step, Process)}
    assert set(processes) == {*SERVICES, "gateway"}
    for name, process in processes.items():
        values = process.command.environment
        assert "root:word" not in " ".join(values.values())
        assert ("MAIL_URL" in values) == (name == "notifications")
        assert ("sk_test_1" in values.values()) == (name == "payments-webhooks")
    catalog = processes["catalog"].command.environment
    assert catalog["DATABASE_URL"].endswith("@db.example:5432/holdfast_catalog?sslmode=require")
    assert catalog["REDIS_URL"] == given["REDIS_URL"]
    assert catalog["OTEL_EXPORTER_OTLP_ENDPOINT"] == given["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert replaced.endpoints({}).stripe_sandbox is None


def test_half_a_stripe_account_is_mentioned() -> None:
    """A key without the rest is not used, and that is said."""
    assert External.of({"STRIPE_API_KEY": "sk_live_1"}).stripe is None
    (notice,) = notices({"STRIPE_API_KEY": "sk_live_1"})
    assert "STRIPE_API_KEY is ignored" in notice
    assert "sk_live_1" not in notice


def test_logs_are_merged_by_time_and_found_by_correlation(state: StateDir) -> None:
    """Lines of all processes in one order, whatever their notation; one id finds its lines everywhere."""
    orders = {"timestamp": "2026-01-31T12:00:02.5Z", "level": "info", "event": "order_paid", "correlation_id": "abc"}
    gateway = {"start_time": "2026-01-31T13:00:01+01:00", "path": "/api/checkout", "correlation.id": "abc"}
    state.log("orders").write_text(json.dumps(orders) + "\nTraceback\n")
    state.log("gateway").write_text(json.dumps(gateway) + "\n")
    state.log("postgres").write_text("2026-01-31 12:00:00.100 UTC [1] LOG:  ready\n")
    state.log("valkey").write_text("7:M 2026-01-31T14:00:03.000+02:00 * Ready\n")
    merged = read(state.logs, (), None, None)
    assert [line.process for line in merged] == ["postgres", "gateway", "orders", "orders", "valkey"]
    assert merged[3].event == "Traceback"
    found = read(state.logs, (), "abc", None)
    assert [line.process for line in found] == ["gateway", "orders"]
    output = io.StringIO()
    show(found, output)
    assert output.getvalue().splitlines()[1].split() == ["12:00:02.500", "orders", "info", "order_paid", "abc"]


def test_events_survive_the_pipe() -> None:
    """What the supervisor says arrives as it was said."""
    event = Event("system", "failed", 1.5, "no\nluck", ("a", "b"))
    assert Event.decode(event.encode()) == event
