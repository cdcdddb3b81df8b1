"""The backstop: forgotten holds come back on sale, living ones stay."""

from datetime import timedelta

from reliability.runtime import Runtime
from services.catalog.settings import CatalogSettings
from tests.integration.catalog.support import TTL, Shop


async def _work(shop: Shop) -> None:
    runtime: Runtime[CatalogSettings] = shop.runtime
    async with shop.database.transaction("plan") as connection:
        await connection.execute("INSERT INTO job_schedules (name) VALUES ('expire_holds') ON CONFLICT DO NOTHING")
    await runtime.worker.run_until_idle()


async def test_the_schedule_gives_back_forgotten_holds(shop: Shop) -> None:
    """Ten minutes after its end a hold is given back; the run says how many."""
    variant = await shop.variant()
    forgotten = await shop.holding((variant, 2))
    living = await shop.holding((variant, 3))
    await shop.age(forgotten, TTL + timedelta(minutes=11))
    await _work(shop)
    assert await shop.state(forgotten) == "expired"
    assert await shop.state(living) == "held"
    assert await shop.counts(variant) == (10, 3)
    runs = await shop.fetch("SELECT processed, failed, finished_at FROM job_runs WHERE job = 'expire_holds'")
    assert [(run["processed"], run["failed"]) for run in runs] == [(1, 0)]
    assert runs[0]["finished_at"] is not None
    await shop.assert_books_balance()


async def test_a_hold_just_over_is_left_to_orders(shop: Shop) -> None:
    """Orders first makes sure that no payment is under way; catalog must not be faster."""
    variant = await shop.variant()
    over = await shop.holding((variant, 2))
    await shop.age(over, TTL + timedelta(minutes=9))
    await _work(shop)
    assert await shop.state(over) == "held"
    assert await shop.counts(variant) == (10, 2)


async def test_every_batch_is_worked_off(shop: Shop) -> None:
    """More holds than one batch takes, over variants they share: all come back in one run."""
    variants = [await shop.variant(1000) for _ in range(3)]
    keys = [await shop.holding((variants[number % 3], 1), (variants[(number + 1) % 3], 2)) for number in range(130)]
    for key in keys:
        await shop.age(key, timedelta(days=1))
    await _work(shop)
    assert {await shop.state(key) for key in keys} == {"expired"}
    assert [await shop.counts(variant) for variant in variants] == [(1000, 0)] * 3
    await shop.assert_books_balance()


async def test_a_customer_who_paid_after_the_backstop_still_gets_it(shop: Shop) -> None:
    """The sweep is no refusal: CommitStock holds anew what the sweep gave back."""
    variant = await shop.variant(2)
    key = await shop.holding((variant, 2))
    await shop.age(key, timedelta(days=1))
    assert await shop.stock.release_expired(timedelta(minutes=10)) == 1
    await shop.stock.commit(key, None)
    assert await shop.counts(variant) == (0, 0)
    await shop.assert_books_balance()


async def test_an_extended_hold_is_not_swept(shop: Shop) -> None:
    """A payment is being processed: orders extends, and the sweep passes by."""
    variant = await shop.variant()
    key = await shop.holding((variant, 1))
    await shop.age(key, timedelta(days=1))
    await shop.stock.extend(key, TTL)
    assert await shop.stock.release_expired(timedelta(minutes=10)) == 0
    assert await shop.state(key) == "held"
