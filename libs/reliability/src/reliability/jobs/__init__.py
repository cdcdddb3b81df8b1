"""Durable jobs in the service's own database: the outbox, the retry queue and the scheduler.

An effect outside the database is a job enqueued in the transaction that decided it. A job may run twice;
the second run must find the work done.
"""

from reliability.jobs.model import Job, Park, Run, Snooze, StoredRun
from reliability.jobs.queue import NewJob, count_dead_letters, enqueue, enqueue_many, redrive
from reliability.jobs.worker import Worker

__all__ = [
    "Job",
    "NewJob",
    "Park",
    "Run",
    "Snooze",
    "StoredRun",
    "Worker",
    "count_dead_letters",
    "enqueue",
    "enqueue_many",
    "redrive",
]
