"""Celery's way in: the sweep of deadlines."""

from celery import shared_task

from approvals import proposals


@shared_task(name="approvals.tasks.expire_due")
def expire_due() -> None:
    proposals.expire_due()
