"""Celery's app as the desk runs it, that also notes each task it begins: a line of time and name in $TASK_LOG."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery.signals import task_prerun

from kalshi_site.celery import app

__all__ = ["app"]


@task_prerun.connect
def note(task: Any, **_: Any) -> None:
    with Path(os.environ["TASK_LOG"]).open("a", encoding="ascii") as log:
        log.write(f"{time.time()} {task.name}\n")
