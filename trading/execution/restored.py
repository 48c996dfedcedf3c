"""After the database has gone back in time: a restored backup, or a repair by hand.

What the backup does not know has happened all the same. Its numbering begins anew, so that every client takes the
state afresh; what it calls approved may long have been sent, so nobody sends it again; and only exits pass until a
person has compared with the exchange and resumes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from approvals import proposals
from approvals.domain.lifecycle import WrongState
from approvals.models import Proposal
from kalshi_site.live import changes, witness
from kalshi_site.versioning import StaleVersion
from portfolio import risk

log = logging.getLogger(__name__)

_looked: list[str] = []
UNSENT = "approved before the database was restored: it may have been sent already"


@dataclass(frozen=True, slots=True)
class Anew:
    """What was done: the new epoch of each topic, and the approvals that were voided."""

    epochs: dict[str, str]
    voided: list[str]


def begin_anew(*, venue: str, actor: str, reason: str, by_itself: bool = False) -> Anew:
    """Pause, void what waits to be sent, begin a new numbering. Safe to repeat. Trading that is stopped stays so."""
    risk.reduce(venue=venue, actor=actor, reason=reason)
    voided = [row.public_id for row in Proposal.objects.unclaimed().filter(venue=venue) if _void(row, actor)]
    epochs = changes.begin_anew(actor=actor, actor_kind="system" if by_itself else "person", reason=reason)
    witness.note()
    return Anew(epochs, voided)


def look(venue: str, behind: Sequence[str] = ()) -> bool:
    """Begin anew when the database is not the one that this machine last saw. True when it was so.

    `behind` are topics that the caller itself has seen further on.
    """
    topics = list(behind) or witness.went_back()
    if topics:
        log.error("state.went_back", extra={"topics": topics})
        begin_anew(
            venue=venue, actor="desk", reason="the database went back in time: a restore", by_itself=True
        )
    return bool(topics)


@contextlib.contextmanager
def watched(venue: str) -> Iterator[None]:
    """Look before the block, and note afterwards where the log stands: for what runs when no page is open.

    Never the note alone: after a restore it would write down what was restored, and nobody could tell any more.
    """
    look(venue)
    try:
        yield
    finally:
        witness.note()


def look_once(venue: str) -> None:
    """The same at the first answer of a process: a backup is put back while the processes stand still."""
    if not _looked:
        look(venue)
        _looked.append(venue)


def _void(proposal: Proposal, actor: str) -> bool:
    try:
        proposals.void(proposal=proposal, reason=UNSENT, actor=actor)
    except (StaleVersion, WrongState):
        return False  # taken in this moment: by an execution that runs on, which the manual forbids
    return True
