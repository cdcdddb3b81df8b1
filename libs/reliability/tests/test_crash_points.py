"""A point kills the process that passes it, once, and only where somebody asked for it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from reliability.settings import ServiceSettings, load
from reliability.testing.crash import CrashPoints, names

PROGRAM = """
import sys
from pathlib import Path
from reliability import crash_points
if len(sys.argv) > 1:
    crash_points.enable(Path(sys.argv[1]))
try:
    crash_points.crash_point("here")
    print("passed", flush=True)
finally:
    print("cleaned up", flush=True)
"""


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output."""
    process = start(*arguments)
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


async def test_an_armed_point_kills_once(tmp_path: Path) -> None:
    """Without any cleaning up; the next process passes, and so does one that passes another point."""
    points = CrashPoints(tmp_path)
    points.arm("elsewhere")
    points.arm("here")
    assert run(tmp_path) == (-signal.SIGKILL, "")
    await points.fired("here", seconds=1)
    assert run(tmp_path) == (0, "passed\ncleaned up\n")
    assert points.armed() == {"elsewhere"}


def test_of_several_processes_one_dies(tmp_path: Path) -> None:
    """Who takes the file away is it."""
    CrashPoints(tmp_path).arm("here")
    processes = [start(tmp_path) for _ in range(4)]
    for process in processes:
        process.communicate(timeout=30)
    assert sorted(process.returncode for process in processes) == [-signal.SIGKILL, 0, 0, 0]


def test_nobody_dies_unasked(tmp_path: Path) -> None:
    """Without a folder an armed point is nothing; in a folder that is gone there is no point."""
    points = CrashPoints(tmp_path)
    points.arm("here")
    assert run() == (0, "passed\ncleaned up\n")
    points.disarm()
    assert run(tmp_path) == (0, "passed\ncleaned up\n")
    assert run(tmp_path / "none") == (0, "passed\ncleaned up\n")


async def test_a_point_nobody_passes_is_said(tmp_path: Path) -> None:
    """A test that waits for a death in the wrong place ends by itself, and names the place."""
    points = CrashPoints(tmp_path)
    points.arm("here")
    with pytest.raises(TimeoutError, match="no process passed here"):
        await points.fired("here", seconds=0.05)


def test_production_refuses_them(tmp_path: Path) -> None:
    """A service with a stray variable does not start."""
    values = {
        "http_port": 1,
        "grpc_port": 2,
        "database_url": "postgresql://u@h/d",
        "redis_url": "redis://h/0",
        "tls_ca_file": tmp_path,
        "tls_cert_file": tmp_path,
        "tls_key_file": tmp_path,
        "crash_points": tmp_path,
    }
    ServiceSettings.model_validate({**values, "environment": "local"})
    with pytest.raises(ValidationError, match="CRASH_POINTS is for tests"):
        ServiceSettings.model_validate({**values, "environment": "production"})


def test_an_empty_variable_arms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell or a manifest sets what it does not mean: no folder, and not the one the process happens to run in."""
    values = {"http_port": 1, "grpc_port": 2, "database_url": "postgresql://u@h/d", "redis_url": "redis://h/0"}
    tls = dict.fromkeys(("tls_ca_file", "tls_cert_file", "tls_key_file"), tmp_path)
    monkeypatch.setenv("CRASH_POINTS", "")
    assert load(ServiceSettings, **values, **tls).crash_points is None
    monkeypatch.setenv("CRASH_POINTS", str(tmp_path))
    assert load(ServiceSettings, **values, **tls).crash_points == tmp_path


def test_every_point_in_the_sources_is_found(tmp_path: Path) -> None:
    """Also in folders below, by either way to import it; what only speaks of points is none."""
    (tmp_path / "below").mkdir()
    (tmp_path / "one.py").write_text("'crash_point(\"not this\")'\ncrash_point('first')\n")
    (tmp_path / "below" / "two.py").write_text("async def f():\n    crash_points.crash_point('second')\n")
    found = names(tmp_path)
    assert set(found) == {"first", "second"}
    assert found["second"].endswith("two.py:2")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("crash_point('twice')\ncrash_point('twice')", "twice is at .*:1 and at .*:2"),
        ("crash_point(f'{kind}.claimed')", ":1 is not named by a literal"),
        ("crash_point(name='keyword')", ":1 is not named by a literal"),
    ],
)
def test_a_point_that_no_list_could_name_is_refused(tmp_path: Path, source: str, complaint: str) -> None:
    """Otherwise a test over all points would miss it without saying so."""
    (tmp_path / "source.py").write_text(source)
    with pytest.raises(ValueError, match=complaint):
        names(tmp_path)
