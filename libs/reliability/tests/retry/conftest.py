"""Fixtures of the retries."""

from types import SimpleNamespace

import pytest

from libs.reliability.tests.retry.support import Clock
from reliability import deadline


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every deadline."""
    clock = Clock()
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock
