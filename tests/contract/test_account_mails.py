"""Every mail that accounts hands over is one that notifications can write."""

import ast
from collections.abc import Iterator

import pytest

from deploy.local.state import ROOT
from services.notifications.mail.samples import SAMPLES
from services.notifications.mail.templates import Templates

ACCOUNTS = ROOT / "services" / "accounts"
_SENDERS = {"queue_mail": 2, "queue_notice": 2, "queue_link": 3}


def _constants(tree: ast.Module) -> dict[str, str]:
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def named() -> Iterator[str]:
    """The template of every call that queues a mail, and of every job that sends a link."""
    for file in sorted(ACCOUNTS.rglob("*.py")):
        tree = ast.parse(file.read_text())
        constants = _constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SENDERS:
                at = _SENDERS[node.func.id]
                given = node.args[at] if len(node.args) > at else None
                if isinstance(given, ast.Name) and given.id in constants:
                    yield constants[given.id]
                elif isinstance(given, ast.Constant):
                    yield str(given.value)
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "template" and isinstance(value, ast.Constant):
                        yield str(value.value)


NAMED = sorted(set(named()))


def test_the_search_finds_them() -> None:
    """One of each way to queue a mail."""
    assert {"email_changed", "session_ended", "staff_invitation", "email_verification"} <= set(NAMED)


@pytest.mark.parametrize("template", NAMED)
def test_notifications_has_the_template(template: str) -> None:
    """A name it does not know would wait in the queue until it is given up."""
    templates = Templates()
    _, mail = templates.render(templates.find(template), SAMPLES[template])
    assert mail.subject
