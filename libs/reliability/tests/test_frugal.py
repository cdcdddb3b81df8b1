"""What is imported without what it would take along."""

import subprocess
import sys

import pytest

from reliability.frugal import without


def test_a_hidden_package_is_missing_in_the_block_only() -> None:
    """Whether it was imported before or not, it is as it was behind the block."""
    before = sys.modules["json"]
    with pytest.raises(ImportError), without("json"):
        import json  # noqa: F401
    assert sys.modules["json"] is before
    with without("reliability_unheard_of"):
        pass
    assert "reliability_unheard_of" not in sys.modules


def test_logging_and_http_leave_rich_alone() -> None:
    """It is installed where this runs, or there would be nothing to leave alone, and can be imported afterwards."""
    look = "import sys, reliability.http, reliability.logging; assert 'rich' not in sys.modules; import rich"
    subprocess.run([sys.executable, "-c", look], check=True, env={"PYTHONPATH": ":".join(sys.path)})
