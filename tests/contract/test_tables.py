"""No table is there for nothing: whoever makes one in a migration writes to it and reads it."""

import re
from pathlib import Path

import pytest

from deploy.local.state import ROOT

LIBRARY = ROOT / "libs" / "reliability" / "src" / "reliability"
# Histories: what happened is kept for people, and no route shows it yet.
HISTORIES = {"sales", "appointment_events"}
_CREATED = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_DROPPED = re.compile(r"DROP TABLE (?:IF EXISTS )?(\w+(?:, \w+)*)")


def migrations(part: Path) -> str:
    """What the migrations of a part do, downs left out."""
    files = sorted(part.rglob("migrations/**/*.sql"))
    return "\n".join(file.read_text().split("-- migrate:down")[0] for file in files)


def parts() -> list[Path]:
    """Every part that has tables."""
    return [LIBRARY, *sorted(path for path in (ROOT / "services").iterdir() if (path / "migrations").is_dir())]


@pytest.mark.parametrize("part", parts(), ids=lambda part: part.name)
def test_every_table_is_written_and_read(part: Path) -> None:
    """By the statements of its own part."""
    sql = migrations(part)
    tables = set(_CREATED.findall(sql)) - {name for names in _DROPPED.findall(sql) for name in names.split(", ")}
    assert tables
    sources = "\n".join(file.read_text() for file in part.rglob("*.py"))
    bodies = sources + sql  # a trigger or a function of the database may be the writer
    unwritten = {name for name in tables if not re.search(rf"(INSERT INTO|UPDATE|COPY|MERGE INTO) {name}\b", bodies)}
    # A row that must be the first of its key is read by its conflict; one that is only deleted is not read.
    reads = r'((?<!DELETE )FROM|JOIN|UPDATE) {0}\b|INSERT INTO {0}\b[^"]*ON CONFLICT'
    unread = {name for name in tables if not re.search(reads.format(name), sources)}
    assert (unwritten, unread - HISTORIES) == (set(), set())
