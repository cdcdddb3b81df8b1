"""The dependency audit says what it knows, and that it knows nothing when it does."""

import pytest

from tools import audit

SOUND = {"name": "starlette", "version": "1.10.0", "vulns": []}
HOLED = {"name": "old", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
UNKNOWN = {"name": "elsewhere", "skip_reason": "Dependency not found"}


def test_a_hole_is_named_with_its_remedy() -> None:
    """And a package nobody knows is counted, not passed."""
    found = audit.judge({"dependencies": [SOUND, HOLED, UNKNOWN]})
    assert (found.audited, found.skipped, found.holes) == (2, 1, ("old 1: PYSEC-1, mended in 2",))


@pytest.mark.parametrize(
    ("result", "required", "status", "said"),
    [
        (audit.Result(3, 0), False, 0, "3 packages audited"),
        (audit.Result(3, 0, ("old 1: PYSEC-1",)), False, 1, "PYSEC-1"),
        (audit.Result(0, 3), False, 0, "NOT AUDITED"),
        (audit.Result(0, 3), True, 1, "NOT AUDITED"),
        (audit.Result(reason="away"), False, 0, "NOT AUDITED"),
    ],
)
def test_nothing_audited_is_never_called_sound(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    result: audit.Result,
    required: bool,
    status: int,
    said: str,
) -> None:
    """It is said, and fails where an audit is required."""
    monkeypatch.setattr(audit, "audit", lambda _lock: result)
    monkeypatch.setenv("AUDIT", "required" if required else "")
    assert audit.main() == status
    assert said in capsys.readouterr().out
