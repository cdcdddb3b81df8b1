"""The local system as it is used: a real PostgreSQL and Valkey under the real supervisor process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.local import LocalError, Ports, System, pick_port_base
from deploy.local.cli import main
from deploy.local.credentials import load_secrets
from deploy.local.databases import database_of, database_url, owner_of, runtime_role_of
from deploy.local.pids import ProcessId
from deploy.local.ports import SERVICES, is_free
from deploy.local.state import ROOT, StateDir, write_json

DATA = ("postgres", "valkey")


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Polls a condition that another process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A database and a cache, shared by the tests that leave them usable."""
    with System(tmp_path_factory.mktemp("system"), pick_port_base(), only=DATA) as running:
        yield running


@pytest.fixture
def other(tmp_path: Path) -> Iterator[System]:
    """A system that is not started yet, and stopped at the end in any case."""
    created = System(tmp_path / "state", pick_port_base(), only=("valkey",))
    yield created
    created.stop()


async def connect(system: System, database: str, service: str, *, owner: bool = False) -> "asyncpg.Connection":
    """As a service, or as the owner of its database."""
    secrets = load_secrets(system.state)
    role, passwords = (
        (owner_of(service), secrets.owner_passwords) if owner else (runtime_role_of(service), secrets.runtime_passwords)
    )
    return await asyncpg.connect(database_url(system.endpoints.postgres, database, role, passwords[service]))


async def test_each_service_connects_to_its_own_database_only(system: System) -> None:
    """No service reads another's database, nor the server's own."""
    for service in SERVICES:
        mine = await connect(system, database_of(service), service)
        await mine.close()
        others = {database_of(other) for other in SERVICES if other != service} | {"postgres", "template1"}
        for database in others:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
                await connect(system, database, service)


async def test_a_service_uses_tables_and_makes_none(system: System) -> None:
    """What the owner's migrations make, in any schema, the service may read and write, and no more."""
    owner = await connect(system, database_of("catalog"), "catalog", owner=True)
    await owner.execute("CREATE SCHEMA jobs; CREATE TABLE jobs.job (id bigserial PRIMARY KEY, note text)")
    await owner.close()
    service = await connect(system, database_of("catalog"), "catalog")
    try:
        assert await service.fetchval("INSERT INTO jobs.job (note) VALUES ('a') RETURNING id") == 1
        await service.execute("UPDATE jobs.job SET note = 'b'; DELETE FROM jobs.job")
        for forbidden in (
            "CREATE TABLE mine (id int)",
            "CREATE TEMPORARY TABLE mine (id int)",
            "CREATE SCHEMA mine",
            "DROP TABLE jobs.job",
            "TRUNCATE jobs.job",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await service.execute(forbidden)
    finally:
        await service.close()


async def test_the_extensions_are_there(system: System) -> None:
    """Trigram search, exclusion constraints over scalars, and vectors work without a superuser."""
    service = await connect(system, database_of("catalog"), "catalog")
    names = {row["extname"] for row in await service.fetch("SELECT extname FROM pg_extension")}
    await service.close()
    assert {"pg_trgm", "btree_gist", "vector"} <= names


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root has to become somebody else")
def test_under_root_the_database_runs_as_somebody_else(system: System) -> None:
    """PostgreSQL refuses root; the account it gets owns its files and holds no needless capability."""
    status = Path(f"/proc/{system.pid('postgres')}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert 0 not in map(int, fields["Uid"].split())
    assert fields["CapEff"] in {f"{0:016x}", f"{2:016x}"}  # none, or CAP_DAC_OVERRIDE below a closed directory


async def test_a_killed_database_comes_back_with_what_was_committed(system: System) -> None:
    """SIGKILL for PostgreSQL costs a moment, not data; endpoints.json follows."""
    owner = await connect(system, database_of("orders"), "orders", owner=True)
    await owner.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (42)")
    old = system.kill("postgres")
    owner.terminate()
    new = system.wait_until_ready("postgres", not_pid=old)
    again = await connect(system, database_of("orders"), "orders")
    assert await again.fetchval("SELECT id FROM kept") == 42
    await again.close()
    assert new != old
    assert system.endpoints.processes["postgres"] == new
    assert system.processes["postgres"]["restarts"] == 1


def test_a_second_start_is_harmless(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """`up` on a running system says so, succeeds, and touches no process."""
    before = system.endpoints.processes
    arguments = ["--state-dir", str(system.state.root), "--port-base", str(system.ports.base)]
    assert main(["up", *arguments]) == 0
    assert "already up" in capsys.readouterr().out
    assert system.endpoints.processes == before
    assert main(["status", *arguments]) == 0
    assert "postgres" in capsys.readouterr().out


def test_moving_a_running_system_is_refused(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """Another port base is not silently ignored."""
    assert main(["up", "--state-dir", str(system.state.root), "--port-base", str(system.ports.base + 40)]) == 1
    assert "make down first" in capsys.readouterr().err


def test_files_with_secrets_are_private(system: System) -> None:
    """Nobody else reads passwords or keys."""
    private = [system.state.endpoints, system.state.secrets, *system.state.tls.iterdir(), *system.state.logs.iterdir()]
    assert {path.stat().st_mode & 0o077 for path in private} == {0}


async def test_servers_of_others_are_used(system: System, tmp_path: Path) -> None:
    """With DATABASE_URL and REDIS_URL nothing is started, the databases are prepared there, and it may be repeated."""
    given = {"DATABASE_URL": system.endpoints.postgres, "REDIS_URL": system.endpoints.redis}
    borrower = StateDir(tmp_path)
    borrower.create()
    # The same passwords, so that the tests that follow still know theirs.
    borrower.secrets.write_bytes(system.state.secrets.read_bytes())
    for _ in range(2):
        with System(tmp_path, pick_port_base(), only=DATA, environment=given) as borrowed:
            assert borrowed.endpoints.postgres == given["DATABASE_URL"]
            assert borrowed.endpoints.redis == given["REDIS_URL"]
            assert borrowed.endpoints.processes == {}
            service = await connect(borrowed, database_of("admin"), "admin")
            await service.close()


async def test_a_server_may_be_borrowed_without_a_superuser(system: System, tmp_path: Path) -> None:
    """CREATEDB and CREATEROLE are enough where the extensions are trusted or there already."""
    names = [name for service in SERVICES for name in (owner_of(service), runtime_role_of(service))]
    server = await asyncpg.connect(system.endpoints.postgres)
    await server.execute("CREATE ROLE tenant LOGIN CREATEDB CREATEROLE PASSWORD 'word'")
    await server.execute("GRANT CONNECT ON DATABASE postgres, template1 TO tenant")
    await server.execute("".join(f'GRANT "{name}" TO tenant WITH ADMIN TRUE;' for name in names))
    await server.close()
    borrower = StateDir(tmp_path)
    borrower.create()
    borrower.secrets.write_bytes(system.state.secrets.read_bytes())
    given = {"DATABASE_URL": database_url(system.endpoints.postgres, "postgres", "tenant", "word")}
    with System(tmp_path, pick_port_base(), only=("postgres",), environment=given) as borrowed:
        service = await connect(borrowed, database_of("admin"), "admin")
        await service.close()


def test_a_port_in_use_is_one_clear_line(other: System, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the port, who wants it and the way out; the exit code is 1 and nothing is left behind."""
    port = other.ports.of("valkey")
    arguments = ["--state-dir", str(other.state.root), "--port-base", str(other.ports.base), "--only", "valkey,mailbox"]
    with socket.create_server(("127.0.0.1", port)):
        assert main(["up", *arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"port {port} is in use, and valkey needs it" in lines[0]
    assert "PORT_BASE=" in lines[0]
    assert "make up" in lines[0]
    assert other.running() is None
    assert other.processes == {}
    assert all(map(is_free, other.ports.all()))


@pytest.mark.parametrize("base", ["0", "70000", "-5", "many"])
def test_ports_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], base: str) -> None:
    """Also zero, which is not the same as saying nothing; one line, and nothing starts."""
    assert main(["up", "--state-dir", str(tmp_path), "--port-base", base, "--only", "valkey"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: PORT_BASE must be")
    assert not (tmp_path / "supervisor.json").exists()


def test_down_leaves_nothing_and_keeps_the_data(tmp_path: Path) -> None:
    """After `down` no process runs and no port is taken; the next `up` finds data and passwords as they were."""
    system = System(tmp_path, pick_port_base(), only=DATA)
    system.start()
    processes = [identity for pid in system.endpoints.processes.values() if (identity := ProcessId.of(pid))]
    password = urlsplit(system.endpoints.postgres).password
    assert len(processes) == 2
    assert system.stop()
    assert not any(process.alive() for process in processes)
    assert all(map(is_free, system.ports.all()))
    assert not system.state.endpoints.exists()
    assert not system.stop()
    try:
        assert urlsplit(system.start().postgres).password == password
    finally:
        system.stop()


def test_a_killed_supervisor_leaves_no_orphans(tmp_path: Path) -> None:
    """SIGKILL for the supervisor itself: its processes end, and `up` starts anew at once."""
    system = System(tmp_path, pick_port_base(), only=DATA)
    system.start()
    try:
        processes = [identity for pid in system.endpoints.processes.values() if (identity := ProcessId.of(pid))]
        running = system.running()
        assert running is not None
        running.process.signal_group(signal.SIGKILL)
        assert within(5, lambda: not running.process.alive())
        if sys.platform == "linux":  # there they end by themselves; elsewhere the next start finds them
            assert within(5, lambda: not any(process.alive() for process in processes))
        system.start()
        assert not any(process.alive() for process in processes)
        assert system.endpoints.processes.keys() == set(DATA)
    finally:
        system.stop()


def test_recorded_orphans_are_stopped_and_recycled_pids_are_not(other: System) -> None:
    """What a dead supervisor recorded is stopped by start time; a stranger with the same pid lives on."""
    other.state.create()
    children = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(2)]
    orphan, stranger = children
    try:
        identity = ProcessId.of(orphan.pid)
        assert identity is not None
        write_json(
            other.state.processes,
            {
                "orphan": {"pid": orphan.pid, "started": identity.started, "stop_signal": signal.SIGTERM},
                "recycled": {"pid": stranger.pid, "started": "another time", "stop_signal": signal.SIGTERM},
            },
        )
        assert other.stop()
        assert orphan.wait(timeout=5) == -signal.SIGTERM
        assert stranger.poll() is None
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_two_starts_at_once_make_one_system(other: System) -> None:
    """The second waits for the first and finds its work done."""
    twin = System(other.state.root, other.ports.base, only=("valkey",))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda system: system.start(), (other, twin))
    assert first.processes == second.processes
    assert len(first.processes) == 1


def test_a_tied_system_ends_with_its_owner(other: System) -> None:
    """A test run that is killed leaves no system behind."""
    script = (
        "import sys, time; from deploy.local import System; "
        "System(sys.argv[1], int(sys.argv[2]), only=('valkey',)).start(tied=True); print('up', flush=True); "
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(other.state.root), str(other.ports.base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        running = other.running()
        assert running is not None
        owner.kill()
    assert within(10, lambda: not running.process.alive())
    assert is_free(other.ports.of("valkey"))


def test_restart_is_graceful(other: System) -> None:
    """`restart` gives a new process, without the old one having been killed."""
    other.start()
    old = other.pid("valkey")
    assert main(["restart", "valkey", "--state-dir", str(other.state.root)]) == 0
    assert other.pid("valkey") != old
    assert "exit code 0" in other.state.log("supervisor").read_text()


def test_a_failed_start_leaves_nothing_and_shows_the_log(other: System) -> None:
    """A part that cannot start is named, with the end of its log, and the rest is stopped again."""
    other.state.create()
    # A directory where the configuration should be written is something no start can get over.
    broken = System(other.state.root, other.ports.base, only=("postgres",))
    (broken.state.data / "postgres" / "data").mkdir(parents=True)
    (broken.state.data / "postgres" / "data" / "PG_VERSION").write_text("18\n")
    with pytest.raises(LocalError, match="postgres ended while starting") as failure:
        broken.start()
    assert failure.value.log_tail
    assert broken.running() is None
    assert all(map(is_free, broken.ports.all()))


def test_ports_follow_the_table() -> None:
    """The offsets are part of the public surface."""
    ports = Ports(8080)
    parts = ("gateway", "gateway admin", "stripe-sandbox", "mailbox", "mailbox SMTP", "postgres", "valkey")
    assert [ports.of(part) for part in parts] == [8080, 8081, 8082, 8083, 8084, 8085, 8086]
    assert [ports.http(service) for service in SERVICES] == [8090, 8091, 8092, 8093, 8094, 8095]
    assert [ports.grpc(service) for service in SERVICES] == [8100, 8101, 8102, 8103, 8104, 8105]
