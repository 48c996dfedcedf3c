"""What this machine last saw of the log, kept beside the database: after a restore the two disagree.

A restored database counts on from where the backup stood, under the epoch that clients know: whoever has seen more
would ignore it for ever. So each process that shows the log, and each round of the update loop, notes now and then
where it stood, and which change that was. Later the log stands before the note, or another change bears the noted
number: then it went back in time.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import get_ident
from typing import Final

from django.conf import settings
from django.db.models import F, Q

from kalshi_site.models import ChangeLog, TopicHead

log = logging.getLogger(__name__)

FILE: Final = "log-witness.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """One topic when it was noted: its numbering, its last number, and the change that bears it."""

    epoch: str
    version: int
    change: str


def note() -> None:
    """Write down where every topic stands. A disk that refuses costs the next comparison and nothing else."""
    told = {topic: asdict(seen) for topic, seen in _standing().items()}
    path = _path()
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch.write_text(json.dumps(told), encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        log.warning("live.witness.failed", extra={"error": repr(error)})


def went_back() -> list[str]:
    """The topics whose log is not the one that was noted; empty without a note, or where nothing tells.

    The note is read before the log: what it says was committed by then, so that a log of today can never lack it.
    """
    noted = _noted()
    if not noted:
        return []
    heads = {row.topic: row for row in TopicHead.objects.filter(topic__in=noted)}
    known = [topic for topic, seen in noted.items() if topic in heads and heads[topic].epoch == seen.epoch]
    there = _changes({topic: noted[topic].version for topic in known})
    return sorted(
        topic
        for topic in known
        if heads[topic].version < noted[topic].version
        or (
            heads[topic].kept_after < noted[topic].version  # else the row has been cut, and nothing tells
            and there.get(topic) != noted[topic].change
        )
    )


def _standing() -> dict[str, Seen]:
    heads = {row.topic: row for row in TopicHead.objects.filter(version__gt=F("kept_after"))}
    there = _changes({topic: row.version for topic, row in heads.items()})
    return {topic: Seen(heads[topic].epoch, heads[topic].version, mark) for topic, mark in there.items()}


def _changes(numbers: dict[str, int]) -> dict[str, str]:
    """The change that bears each number, in one line that no other change of that number would share."""
    wanted = Q(pk__in=[])
    for topic, number in numbers.items():
        wanted |= Q(topic=topic, version=number)
    return {
        row.topic: f"{row.key} {row.object_version} {row.at.isoformat()}"
        for row in ChangeLog.objects.filter(wanted)
    }


def _noted() -> dict[str, Seen]:
    try:
        told = json.loads(_path().read_text(encoding="utf-8"))
        return {topic: Seen(**seen) for topic, seen in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _path() -> Path:
    return Path(settings.VAR_DIR) / "run" / FILE
