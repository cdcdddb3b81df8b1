"""The command line. Errors are one line that says what to do; the exit code is 1."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from deploy.local import logs
from deploy.local.credentials import load_secrets
from deploy.local.daemon import supervise
from deploy.local.errors import ConfigurationFailure, LocalError, Unavailable
from deploy.local.events import write_event
from deploy.local.ports import Ports
from deploy.local.progress import display
from deploy.local.specs import Process
from deploy.local.state import ROOT, StateDir
from deploy.local.system import System
from deploy.local.topology import Site

__all__ = ["main"]

_DEFAULT_PORT_BASE = 8080


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except LocalError as error:
        _complain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _up(options: argparse.Namespace) -> int:
    system = _system(options)
    if options.fresh:
        system.stop()
        system.state.wipe()
    running = system.running()
    if running and running.phase == "up":
        return _already_up(system, options)
    if options.foreground:
        return _foreground(system)
    with display() as screen:
        system.start(screen.show)
    what = f"{', '.join(options.only)}: up" if options.only else f"Holdfast is up on {system.endpoints.gateway}"
    _say(f"{what}; status: make status, stop: make down")
    return 0


def _already_up(system: System, options: argparse.Namespace) -> int:
    endpoints, running = system.endpoints, system.running()
    if running and _chosen_port_base(options) not in {None, running.port_base}:
        raise Unavailable(f"the system is already up on {endpoints.gateway}: make down first, to move its ports")
    unwell = [name for name, well in _health(system).items() if not well]
    if unwell:
        raise Unavailable(f"already up on {endpoints.gateway}, but not ready: {', '.join(unwell)}; see make logs")
    _say(f"Holdfast is already up on {endpoints.gateway}, everything ready")
    return 0


def _foreground(system: System) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with display() as screen:
            system.start(screen.show, tied=True)
        _say(f"Holdfast is up on {system.endpoints.gateway}; Ctrl-C stops it")
        return system.wait()
    finally:
        system.stop()


def _down(options: argparse.Namespace) -> int:
    _say("Holdfast is down" if _system(options).stop() else "nothing was running")
    return 0


def _status(options: argparse.Namespace) -> int:
    system = _system(options)
    running = system.running()
    if not running:
        raise Unavailable("the system is not up: make up")
    health = _health(system)
    _say(f"supervisor {running.process.pid}, {running.phase}, port base {running.port_base}")
    for name, record in system.processes.items():
        state = "ready" if health.get(name) else "not ready" if record["state"] == "ready" else record["state"]
        ports = " ".join(map(str, record["ports"]))
        facts = f"since {record['since']}  pid {record['pid']:<8} restarts {record['restarts']:<3} ports {ports}"
        _say(f"  {name:<18} {state:<10} {facts}")
    return 0 if running.phase == "up" and all(health.values()) else 1


def _logs(options: argparse.Namespace) -> int:
    folder = StateDir(options.state_dir.resolve()).logs
    if not folder.exists():
        raise Unavailable("there are no logs yet: make up")
    names = sorted({path.name.partition(".log")[0] for path in folder.glob("*.log*")})
    if unknown := set(options.service) - set(names):
        raise Unavailable(f"no log of {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    last = None if options.correlation else options.lines
    new = logs.follow(folder, options.service, options.correlation) if options.follow else ()
    logs.show(logs.read(folder, options.service, options.correlation, last))
    logs.show(new)
    return 0


def _restart(options: argparse.Namespace) -> int:
    pid = _system(options).restart(options.service)
    _say(f"{options.service} is ready again, pid {pid}")
    return 0


def _supervise(options: argparse.Namespace) -> int:
    state = StateDir(options.state_dir)
    state.create()
    ports = Ports(_port_base(options))
    return asyncio.run(supervise(state, ports, options.only, write_event, tied=options.tied))


def _health(system: System) -> dict[str, bool]:
    """Asks every process that runs whether it is ready."""
    running = system.running()
    if running is None:
        return {}
    site = Site.of(system.state, Ports(running.port_base), load_secrets(system.state))
    probes = {step.name: step.ready for step in site.plan() if isinstance(step, Process)}
    names = [name for name in system.processes if name in probes]

    async def ask() -> list[bool]:
        return await asyncio.gather(*(probes[name]() for name in names))

    return dict(zip(names, asyncio.run(ask()), strict=True))


def _system(options: argparse.Namespace) -> System:
    return System(options.state_dir, _port_base(options), only=options.only)


def _port_base(options: argparse.Namespace) -> int:
    chosen = _chosen_port_base(options)
    return _DEFAULT_PORT_BASE if chosen is None else chosen


def _chosen_port_base(options: argparse.Namespace) -> int | None:
    """The port base that the caller asked for, if any."""
    text = options.port_base or os.environ.get("PORT_BASE")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise ConfigurationFailure(f"PORT_BASE must be a number, not {text!r}; try PORT_BASE={_DEFAULT_PORT_BASE}")
    return int(text)


def _complain(error: LocalError) -> None:
    sys.stderr.write(f"error: {error.message}\n")
    for line in error.log_tail:
        sys.stderr.write(f"    {line}\n")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state-dir", type=Path, default=ROOT / ".local", help="where everything is kept (.local)")
    common.add_argument("--port-base", help="moves every port (PORT_BASE, 8080)")
    common.add_argument("--only", type=_names, default=(), help="these processes and what they need, comma separated")
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="Runs Holdfast on this machine.")
    commands = parser.add_subparsers(required=True, metavar="command")

    up = commands.add_parser("up", parents=[common], help="start it and wait until it is ready")
    up.add_argument("--foreground", action="store_true", help="stay, and stop it on Ctrl-C")
    up.add_argument("--fresh", action="store_true", help="without the data and secrets of last time")
    up.set_defaults(run=_up)
    commands.add_parser("down", parents=[common], help="stop it; the data stays").set_defaults(run=_down)
    commands.add_parser("status", parents=[common], help="what runs, and is it ready").set_defaults(run=_status)

    show = commands.add_parser("logs", parents=[common], help="the logs of all processes as one")
    show.add_argument("service", nargs="*", help="only of these processes")
    show.add_argument("--follow", "-f", action="store_true", help="wait for more")
    show.add_argument("--correlation", metavar="ID", help="only lines of this correlation id")
    show.add_argument("--lines", "-n", type=int, default=200, help="how many of the past (200)")
    show.set_defaults(run=_logs)

    restart = commands.add_parser("restart", parents=[common], help="restart one process, gracefully")
    restart.add_argument("service")
    restart.set_defaults(run=_restart)

    supervisor = commands.add_parser("supervise", parents=[common], help="(what `up` leaves in the background)")
    supervisor.add_argument("--tied", action="store_true", help="stop at the end of standard input")
    supervisor.set_defaults(run=_supervise)
    return parser
