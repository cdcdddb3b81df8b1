"""What was told a moment ago: for a while, not of everything, and not what turned out to be otherwise."""

from reliability.testing import FakeClock
from services.orders.recent import Recent


def test_an_answer_is_remembered_for_a_while() -> None:
    """Told again, it is new again; what was never told is not there."""
    clock = FakeClock()
    recent = Recent[int](seconds=30, now=clock)
    recent.remember({"a": 1, "b": 2})
    clock.advance(20)
    recent.remember({"b": 3})
    assert recent(["a", "b", "c"]) == {"a": 1, "b": 3}
    clock.advance(20)
    assert recent(["a", "b", "c"]) == {"b": 3}


def test_the_latest_are_remembered() -> None:
    """Whoever is asked about all the time stays, whenever it was told of first."""
    recent = Recent[int](most=2, now=FakeClock())
    recent.remember({"a": 1})
    recent.remember({"b": 2})
    recent.remember({"a": 3})
    recent.remember({"c": 4})
    assert recent("abc") == {"a": 3, "c": 4}


def test_what_was_wrong_is_forgotten() -> None:
    """And nothing else."""
    recent = Recent[int](now=FakeClock())
    recent.remember({"a": 1, "b": 2})
    recent.forget(["a", "c"])
    assert recent("ab") == {"b": 2}
