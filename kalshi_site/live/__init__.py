"""Telling open pages that something changed.

A change is numbered in its own transaction (`changed`), then announced after the commit. The announcement is a hint:
pages fetch the truth, so a lost hint costs freshness and never correctness.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from asgiref.sync import async_to_sync
from channels.layers import BaseChannelLayer, get_channel_layer
from django.db import transaction
from django.utils import timezone

from kalshi_site import prepared
from kalshi_site.live.background import Background
from kalshi_site.models import ChangeLog, TopicHead

log = logging.getLogger(__name__)

# Seconds. A layer that hangs may cost a deed little, and only once.
PATIENCE = 1.0
SILENCE = 2.0
_COUNT_UP: Final = prepared.Statement(
    "UPDATE kalshi_site_topichead SET version = version + 1 WHERE topic = %s RETURNING version"
)
_silent_until = [float("-inf")]
_background: list[Background] = []


def announce_in_background() -> None:
    """Let this process announce from a thread of its own: for execution, which claims and sends in one breath."""
    if not _background:
        _background.append(Background(_announce, patience=PATIENCE))


def group_of(topic: str) -> str:
    """The channel group of a topic such as `proposals`, `orders`, `positions`, `trading`, `quotes`."""
    return f"live.{topic}"


def changed(topic: str, *, key: str, version: int, kind: str = "changed") -> int:
    """Number a change of `topic` and announce it after the commit. Call inside the changing transaction.

    Returns the topic's new version: commit order equals number order, without gaps (RELIABILITY.md 3.3).
    """
    number = _next_number(topic)
    if number is None:
        TopicHead.objects.bulk_create([TopicHead(topic=topic)], ignore_conflicts=True)
        number = _next_number(topic)
        assert number is not None
    now = timezone.now()
    row = ChangeLog(topic=topic, version=number, key=key, object_version=version, kind=kind, at=now)
    prepared.insert(row)
    after_commit(topic, {"id": key, "version": version, "kind": kind, "s": number})
    return number


def _next_number(topic: str) -> int | None:
    """Raise the topic's number and read it in one statement: a claim does so twice. None for a topic without a row."""
    rows, _ = _COUNT_UP.run([topic])
    return rows[0][0] if rows else None


def after_commit(topic: str, payload: dict[str, Any]) -> None:
    """Publish once the transaction has committed; at once when there is none."""
    transaction.on_commit(lambda: publish(topic, payload))


def publish(topic: str, payload: dict[str, Any]) -> bool:
    """Send a small payload to every page on `topic`. False when the layer is out of reach: pages catch up by asking."""
    layer = get_channel_layer()
    if layer is None:
        return False
    message = {"type": "live.event", "topic": topic, "data": payload, "ts": _now_ms()}
    if _background:
        return _background[0].hand_over(topic, message)
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


async def _announce(topic: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is not None:
        await layer.group_send(group_of(topic), message)


async def _send(layer: BaseChannelLayer, group: str, message: dict[str, Any]) -> None:
    await asyncio.wait_for(layer.group_send(group, message), PATIENCE)


def _now_ms() -> int:
    return int(timezone.now().timestamp() * 1000)
