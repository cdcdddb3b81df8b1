"""Durable jobs in the service's own database: the outbox, the retry queue and the scheduler.

An effect outside the database is a job enqueued in the transaction that decided it. A job may run twice;
the second run must find the work done.
"""

from reliability.jobs.model import Job, Park, Run, Snooze, StoredRun
from reliability.jobs.offer import NO_OFFER, Offer
from reliability.jobs.queue import (
    NewJob,
    completing,
    count_dead_letters,
    enqueue,
    enqueue_many,
    enqueueing,
    redrive,
    redriving,
    wake,
)
from reliability.jobs.worker import Worker

__all__ = [
    "NO_OFFER",
    "Job",
    "NewJob",
    "Offer",
    "Park",
    "Run",
    "Snooze",
    "StoredRun",
    "Worker",
    "completing",
    "count_dead_letters",
    "enqueue",
    "enqueue_many",
    "enqueueing",
    "redrive",
    "redriving",
    "wake",
]
