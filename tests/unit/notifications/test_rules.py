"""The pure rules: what follows an attempt, how long to wait, what a plain text says."""

import asyncio
import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.cancellation import uninterrupted
from services.notifications.campaigns.domain import Body, Recipient, RecipientState, cut, slot
from services.notifications.campaigns.domain import state_after as recipient_after
from services.notifications.mail.backoff import seconds_until_next
from services.notifications.mail.domain import (
    GIVE_UP_SECONDS,
    MAX_ATTEMPTS,
    Attempt,
    Category,
    EmailState,
    Message,
    Outcome,
    Rendered,
    Verdict,
    state_after,
)
from services.notifications.mail.plain_text import plain_text

MESSAGE = Message("a@example.com", Rendered("s", "h", "t"), "<1@x>", "", datetime(2026, 1, 1, tzinfo=UTC))


def attempt(category: Category, *, number: int = 1, unreached: int = 0, ambiguous: int = 0, age: float = 0) -> Attempt:
    return Attempt("id", category, number, unreached, ambiguous, age, MESSAGE)


def test_only_one_ambiguous_attempt_is_ever_followed_by_another() -> None:
    """Over every run of answers: marketing has at most one possible copy, transactional mail at most two."""
    for category, answers in itertools.product(Category, itertools.product(Verdict, repeat=6)):
        unreached = ambiguous = copies = 0
        for number, verdict in enumerate(answers, 1):
            state = state_after(
                attempt(category, number=number, unreached=unreached, ambiguous=ambiguous), Outcome(verdict)
            )
            copies += verdict in {Verdict.ACCEPTED, Verdict.UNKNOWN}
            unreached += verdict is Verdict.UNREACHABLE
            ambiguous += verdict is Verdict.UNKNOWN
            if state is not EmailState.RETRYING:
                break
        assert copies <= (2 if category is Category.TRANSACTIONAL else 1)
        if state.final and copies == 0:
            assert state is EmailState.FAILED
        if state is EmailState.FAILED:
            assert copies == 0


@pytest.mark.parametrize("category", Category)
def test_attempts_are_counted_without_outages(category: Category) -> None:
    """Three answers are the limit; attempts that met no server are none of them."""
    later = Outcome(Verdict.TRY_LATER)
    assert state_after(attempt(category, number=MAX_ATTEMPTS - 1), later) is EmailState.RETRYING
    assert state_after(attempt(category, number=MAX_ATTEMPTS), later) is EmailState.FAILED
    assert state_after(attempt(category, number=MAX_ATTEMPTS + 5, unreached=6), later) is EmailState.RETRYING


def test_a_day_without_a_server_is_enough() -> None:
    """Then somebody is told."""
    away = Outcome(Verdict.UNREACHABLE)
    assert state_after(attempt(Category.TRANSACTIONAL, age=GIVE_UP_SECONDS - 1), away) is EmailState.RETRYING
    assert state_after(attempt(Category.TRANSACTIONAL, age=GIVE_UP_SECONDS), away) is EmailState.FAILED


@pytest.mark.parametrize(
    ("verdict", "attempts", "state"),
    [
        (Verdict.ACCEPTED, 1, RecipientState.SENT),
        (Verdict.REFUSED, 1, RecipientState.FAILED),
        (Verdict.TRY_LATER, 1, RecipientState.QUEUED),
        (Verdict.TRY_LATER, 3, RecipientState.FAILED),
        (Verdict.UNREACHABLE, 9, RecipientState.QUEUED),
        (Verdict.UNKNOWN, 1, RecipientState.UNKNOWN),
    ],
)
def test_a_recipient_after_an_attempt(verdict: Verdict, attempts: int, state: RecipientState) -> None:
    """What may have been accepted is never queued again."""
    recipient = Recipient("id", "a@example.com", "", "<1@x>", attempts, 0)
    assert recipient_after(recipient, Outcome(verdict)) is state


@given(attempts=st.integers(1, 3), age=st.floats(0, 10**6), first=st.floats(0.1, 300))
def test_waits_are_bounded(attempts: int, age: float, first: float) -> None:
    """Never at once, never much longer than planned."""
    later = seconds_until_next(Outcome(Verdict.TRY_LATER), attempts=attempts, age=age, first=first)
    planned = first * 5 ** (attempts - 1)
    assert planned * 0.5 <= later <= planned * 1.5
    away = seconds_until_next(Outcome(Verdict.UNREACHABLE), attempts=attempts, age=age, first=first)
    assert 0.5 <= away <= 90


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5), st.text())
def test_a_mail_is_its_pieces_and_the_words(pieces: list[str], word: str) -> None:
    """Cut at its slots and filled again, a text is what it was with the word in each slot."""
    marker = "slot-\U0001f512-marker"
    rendered = slot(marker, "greeting").join(pieces)
    body = Body(html=("",), text=cut(rendered, marker))
    assert body.fill({"greeting": word})[1] == word.join(pieces)


def test_words_are_escaped_in_html_only() -> None:
    """A recipient's name is text in both parts."""
    body = Body(html=("<p>", "greeting", "</p>"), text=("", "greeting", ""))
    assert body.fill({"greeting": "<b>"}) == ("<p>&lt;b&gt;</p>", "<b>")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two<br>lines</p>", "One\n\nTwo\nlines"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b"),
        ("<a href='https://x.example'>here</a> &amp; <a>there</a>", "here <https://x.example> & there"),
        ("<style>p{}</style><script>x()</script>text", "text"),
        ("a\n   b", "a b"),
        ("<p>unclosed <b>bold", "unclosed bold"),
        ("</style>text", "text"),
        ("", ""),
    ],
)
def test_plain_text(html: str, text: str) -> None:
    """Paragraphs, lists and links are kept; styles and scripts are not."""
    assert plain_text(html) == text


async def test_uninterrupted_ends_its_step() -> None:
    """A cancelled task ends its step first, however often it is cancelled, and is cancelled then."""
    go, done = asyncio.Event(), []

    async def step() -> None:
        await go.wait()
        done.append(1)

    task = asyncio.create_task(uninterrupted(step()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]


async def test_uninterrupted_hands_on_what_its_step_raises() -> None:
    """Without a cancellation it is not there; with one, the cancellation wins over the failure."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        await uninterrupted(fail())
    task = asyncio.create_task(uninterrupted(fail()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
