"""The task queue and the whole beat schedule.

Two queues, so that a slow model never starves reconciliation: `update` (default) and `agent`. A scheduled message
expires before the next one of its kind is due: after an outage no backlog is worked off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging, worker_process_init, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")

app = Celery("kalshi_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

SCHEDULE: dict[str, dict[str, Any]] = {
    "expire due proposals": {"task": "approvals.tasks.expire_due", "schedule": 1.0, "queue": "update"},
    "reconcile with the exchange": {"task": "trading.tasks.update_cycle", "schedule": 5.0, "queue": "update"},
    "forget what is old": {"task": "trading.tasks.housekeeping", "schedule": 300.0, "queue": "update"},
    "look for trades": {"task": "trading.tasks.decision_cycle", "schedule": 15.0, "queue": "agent"},
}


def _entry(task: str, schedule: float, queue: str) -> dict[str, Any]:
    return {"task": task, "schedule": schedule, "options": {"queue": queue, "expires": schedule}}


app.conf.beat_schedule = {name: _entry(**entry) for name, entry in SCHEDULE.items()}
app.conf.task_routes = {entry["task"]: {"queue": entry["queue"]} for entry in SCHEDULE.values()}
app.conf.worker_redirect_stdouts = False


@setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Celery configures no logging of its own once somebody listens here."""


@worker_ready.connect
@beat_init.connect
def tell_ready(**_: Any) -> None:
    """Leave the file that the supervisor waits for."""
    if path := os.environ.get("KALSHI_READY_FILE"):
        Path(path).write_text(str(os.getpid()), encoding="utf-8")


@worker_ready.connect
def worker_beats(sender: Any, **_: Any) -> None:
    """The worker lives; whether its child works shows by the age of its loop's last round."""
    from kalshi_site import heartbeat

    heartbeat.begin(str(sender.hostname).partition("@")[0])


@beat_init.connect
def beat_beats(**_: Any) -> None:
    """The schedule lives."""
    from kalshi_site import heartbeat

    heartbeat.begin("beat")


@beat_init.connect
def begin_at_once(**_: Any) -> None:
    """Send each task of the schedule once: beat itself would first wait a whole interval."""
    for entry in SCHEDULE.values():
        app.send_task(entry["task"], **_entry(**entry)["options"])


@worker_process_init.connect
def assemble(**_: Any) -> None:
    """Each pool child opens its own connections: parts are never shared across a fork."""
    from kalshi_site.wiring import assemble_worker

    assemble_worker()
