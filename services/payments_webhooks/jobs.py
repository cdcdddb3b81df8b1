"""The jobs and schedules of payments."""

from typing import Final

from reliability.jobs import Worker
from services.payments_webhooks.reconcile.service import RECONCILE, ReconcileService
from services.payments_webhooks.refund.service import RefundService
from services.payments_webhooks.subscription.notices import SEND_NOTICE, Notices
from services.payments_webhooks.webhook.service import PROCESS_EVENT, WebhookService

__all__ = ["register"]

_RECONCILE_EVERY: Final = 300.0


def register(
    worker: Worker,
    webhooks: WebhookService,
    refunds: RefundService,
    reconciler: ReconcileService,
    notices: Notices,
) -> None:
    """Makes the handlers known."""
    worker.handle(PROCESS_EVENT, webhooks.process, parked=webhooks.parked)
    worker.handle("create_refund", refunds.create)
    worker.handle("report_refund", refunds.report)
    worker.handle("report_failed_refund", refunds.report_failed)
    worker.handle(SEND_NOTICE, notices.send)
    worker.handle(RECONCILE, reconciler.requested, timeout=_RECONCILE_EVERY)
    worker.every(_RECONCILE_EVERY, "reconcile_payments", reconciler.run)
    worker.observe(reconciler.observe)
