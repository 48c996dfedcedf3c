"""Telling open pages that something changed.

A change is numbered in its own transaction (`changed`), then announced after the commit. The announcement is a hint:
pages fetch the truth, so a lost hint costs freshness and never correctness.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import BaseChannelLayer, get_channel_layer
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from kalshi_site.models import ChangeLog, TopicHead

log = logging.getLogger(__name__)

# Seconds. Execution announces between the claim and the send: a layer that hangs may cost it little, and only once.
PATIENCE = 1.0
SILENCE = 2.0
_silent_until = [float("-inf")]


def group_of(topic: str) -> str:
    """The channel group of a topic such as `proposals`, `orders`, `positions`, `trading`, `quotes`."""
    return f"live.{topic}"


def changed(topic: str, *, key: str, version: int, kind: str = "changed") -> int:
    """Number a change of `topic` and announce it after the commit. Call inside the changing transaction.

    Returns the topic's new version: commit order equals number order, without gaps (RELIABILITY.md 3.3).
    """
    if not TopicHead.objects.filter(topic=topic).update(version=F("version") + 1):
        TopicHead.objects.bulk_create([TopicHead(topic=topic)], ignore_conflicts=True)
        TopicHead.objects.filter(topic=topic).update(version=F("version") + 1)
    number = TopicHead.objects.values_list("version", flat=True).get(topic=topic)
    now = timezone.now()
    ChangeLog.objects.create(topic=topic, version=number, key=key, object_version=version, kind=kind, at=now)
    after_commit(topic, {"id": key, "version": version, "kind": kind, "s": number})
    return number


def after_commit(topic: str, payload: dict[str, Any]) -> None:
    """Publish once the transaction has committed; at once when there is none."""
    transaction.on_commit(lambda: publish(topic, payload))


def publish(topic: str, payload: dict[str, Any]) -> bool:
    """Send a small payload to every page on `topic`. False when the layer is out of reach: pages catch up by asking."""
    layer = get_channel_layer()
    if layer is None:
        return False
    message = {"type": "live.event", "topic": topic, "data": payload, "ts": _now_ms()}
    if time.monotonic() < _silent_until[0]:
        return False
    try:
        async_to_sync(_send)(layer, group_of(topic), message)
    except Exception as error:  # any transport fault: a hint must never break the deed it announces
        log.warning("live.publish.failed", extra={"topic": topic, "error": repr(error)})
        if isinstance(error, TimeoutError):
            _silent_until[0] = time.monotonic() + SILENCE
        return False
    return True


async def _send(layer: BaseChannelLayer, group: str, message: dict[str, Any]) -> None:
    await asyncio.wait_for(layer.group_send(group, message), PATIENCE)


def _now_ms() -> int:
    return int(timezone.now().timestamp() * 1000)
