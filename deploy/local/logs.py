"""The logs of all processes as one, in order of time."""

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Line", "follow", "parse", "read", "show"]

_TIMES = ("timestamp", "time", "start_time", "ts")
_CORRELATIONS = ("correlation_id", "correlation.id", "x-correlation-id", "correlation")
_EVENTS = ("event", "message", "msg")
_SHOWN_ELSEWHERE = {*_TIMES, *_CORRELATIONS, *_EVENTS, "level", "service", "exception"}
# Envoy's own lines begin "[2026-01-31 12:00:00.123]", PostgreSQL's "2026-01-31 12:00:00.123 UTC" and Valkey's
# "1234:M 2026-01-31T12:00:00.123+00:00".
_PLAIN_TIME = re.compile(r"^[\w:]*[ \[]?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d:\d\d)?")
_COLOURS = {"warning": "\033[33m", "error": "\033[31m", "critical": "\033[31m", "debug": "\033[2m"}


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One line of one process. Orders by time; lines without one stay behind the line before them."""

    time: str
    process: str
    level: str
    event: str
    correlation_id: str
    fields: str

    def text(self, *, colour: bool) -> str:
        """As printed."""
        clock = self.time[11:23].ljust(12)
        parts = [clock, f"{self.process:<17}", f"{self.level:<7}", self.event, self.fields, self.correlation_id]
        text = " ".join(part for part in parts if part).rstrip()
        return f"{_COLOURS[self.level]}{text}\033[0m" if colour and self.level in _COLOURS else text


def parse(process: str, raw: str, last_time: str) -> Line:
    """A line of a log file; `last_time` is that of the line before it."""
    record = _json_object(raw)
    if record is None:
        found = _PLAIN_TIME.match(raw)
        when = _utc(f"{found[1]}T{found[2]}{found[3] or ''}") if found else last_time
        return Line(when, process, "", raw, "", "")
    rest = {name: value for name, value in record.items() if name not in _SHOWN_ELSEWHERE and value is not None}
    fields = " ".join(f"{name}={_brief(value)}" for name, value in rest.items())
    exception = record.get("exception")
    return Line(
        _utc(str(_first(record, _TIMES) or last_time)),
        str(record.get("service") or process),
        str(record.get("level") or "").lower(),
        str(_first(record, _EVENTS) or ("request" if "path" in record else "")),
        str(_first(record, _CORRELATIONS) or ""),
        f"{fields}\n{exception}" if exception else fields,
    )


def read(folder: Path, processes: Sequence[str], correlation: str | None, last: int | None) -> list[Line]:
    """The last lines of the named processes (all when none is named), merged; `last` None means every line."""
    lines: list[Line] = []
    for path in _files(folder, processes, old=True):
        with suppress(FileNotFoundError):
            lines += _parse_all(path, path.read_text(errors="replace").splitlines())
    wanted = sorted((line for line in lines if _matches(line, correlation)), key=lambda line: line.time)
    return wanted if last is None else wanted[-last:]


def follow(folder: Path, processes: Sequence[str], correlation: str | None) -> Iterator[Line]:
    """New lines as they are written, for ever."""
    offsets = {path: path.stat().st_size for path in _files(folder, processes)}
    while True:
        fresh: list[Line] = []
        for path in _files(folder, processes):
            text, offsets[path] = _since(path, offsets.get(path, 0))
            fresh += _parse_all(path, text.splitlines())
        yield from sorted((line for line in fresh if _matches(line, correlation)), key=lambda line: line.time)
        time.sleep(0.2)


def show(lines: Iterable[Line], output: TextIO = sys.stdout) -> None:
    """Prints lines as they come."""
    for line in lines:
        output.write(line.text(colour=output.isatty()) + "\n")
        output.flush()


def _since(path: Path, offset: int) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(offset if offset <= size else 0)  # a shorter file was put aside and begun anew
            data = file.read()
            whole = data.rfind(b"\n") + 1  # the rest of a line that is being written comes next time
            return data[:whole].decode(errors="replace"), file.tell() - len(data) + whole
    except FileNotFoundError:
        return "", 0


def _files(folder: Path, processes: Sequence[str], *, old: bool = False) -> Iterator[Path]:
    for path in sorted([*(folder.glob("*.log.1") if old else ()), *folder.glob("*.log")], key=lambda path: path.name):
        if not processes or _process_of(path) in processes:
            yield path


def _process_of(path: Path) -> str:
    return path.name.removesuffix(".1").removesuffix(".log")


def _parse_all(path: Path, raw_lines: Sequence[str]) -> Iterator[Line]:
    last_time = ""
    for raw in islice(raw_lines, None):
        line = parse(_process_of(path), raw, last_time)
        last_time = line.time
        yield line


def _matches(line: Line, correlation: str | None) -> bool:
    return correlation is None or line.correlation_id == correlation


def _json_object(raw: str) -> dict[str, Any] | None:
    if not raw.startswith("{"):
        return None
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _first(record: Mapping[str, Any], names: Sequence[str]) -> object:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _brief(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _utc(when: str) -> str:
    """One notation, so that text order is time order."""
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        return when
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
