"""The trading state: ACTIVE, REDUCING or HALTED for everything, and closer for a strategy, a series or a market.

Where several scopes cover an order, the strictest counts. Every change takes the row of everything first, as a claim
does: so a stop and a claim have an order, and after a stop's commit nothing is claimed that it covers. `kill_epoch` of
that row grows with every stop of any scope; an order remembers the epoch it was claimed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.prepared import prepared
from kalshi_site.versioning import StaleVersion, compare_and_set
from portfolio.domain import scopes
from portfolio.domain.limits import TradingMode
from portfolio.domain.scopes import ALL
from portfolio.models import TradingState, TradingStateEvent
from portfolio.risk.second_person import LIVE, SECOND_WITHIN, SecondPersonNeeded, is_another

_VERBS: Final = {
    "ACTIVE": "trading.resume",
    "REDUCING": "trading.pause",
    "HALTED": "trading.halt",
}


class ResumeRefused(Exception):
    """Trading is not resumed while something stands that a person must acknowledge first. The message says what."""

    code = "E308"


class ReasonMissing(Exception):
    """Whoever resumes, or gives more room, says why it is safe now; it stands in the record."""

    code = "E010"

    def __init__(self, deed: str = "resume") -> None:
        super().__init__(f"say why it is safe to {deed}; it stands in the record")


_objections: list[Callable[[str], str]] = []
_wakers: list[Callable[[], object]] = []
_names: list[Callable[[str], bool]] = []


def object_to_resuming(*sources: Callable[[str], str]) -> None:
    """Let the room above say why a venue may not be resumed: a sentence, or "" when nothing stands against it."""
    _objections[:] = sources


def know_names_from(source: Callable[[str], bool]) -> None:
    """Let the room above say whether anything goes by a scope's name. Called once at start."""
    _names[:] = [source]


def doubt_of(scope: str) -> str:
    """What the answer to a pause or a stop says when nothing here goes by the scope's name; "" otherwise.

    It stands all the same: a way out is never refused, and an order may come by that name.
    """
    if scope == ALL or any(known(scope) for known in _names):
        return ""
    return f"nothing here goes by the name of {scopes.in_words(scope)}: look whether it is spelled right"


def trading_state(venue: str, *, scope: str = ALL, lock: bool = False) -> TradingState:
    """The state of one scope; `lock` holds its row until the transaction ends."""
    read = _locked if lock else _unlocked
    found = read.first(venue, scope)
    if found is None:
        TradingState.objects.get_or_create(venue=venue, scope=scope)
        (found,) = read(venue, scope)
    return found


@prepared
def _locked(venue: str, scope: str) -> QuerySet[TradingState]:
    return TradingState.objects.select_for_update().filter(venue=venue, scope=scope)


@prepared
def _unlocked(venue: str, scope: str) -> QuerySet[TradingState]:
    return TradingState.objects.filter(venue=venue, scope=scope)


def standing(venue: str) -> QuerySet[TradingState]:
    """The scopes that are paused or stopped by themselves, everything first."""
    return TradingState.objects.filter(venue=venue).exclude(mode=TradingState.Mode.ACTIVE).order_by("scope")


def mode_for(venue: str, covering: Iterable[str]) -> TradingMode:
    """The mode in force for an order that these scopes cover."""
    return over(venue, covering).mode


def wake_at_changes(*wakers: Callable[[], object]) -> None:
    """Let the room above be called after the commit of every change: execution carries a stop out at once."""
    _wakers[:] = wakers


@dataclass(frozen=True, slots=True)
class Over:
    """What stands over an order: the mode in force, and the kill epoch of the last stop of one of its scopes (0: none).

    `halted_epoch` remembers a stop that was resumed from.
    """

    mode: TradingMode
    halted_epoch: int


def over(venue: str, covering: Iterable[str]) -> Over:
    """What stands over an order that these scopes cover. It stays so while the caller holds everything's row.

    Ask after that row is locked, and by a statement of its own: one that waits for the lock sees what was committed
    before it began to wait, and misses a scope that was stopped for the first time meanwhile (PostgreSQL).
    """
    found = _standing_over(venue, tuple(covering))
    return Over(
        scopes.strictest(TradingMode(mode) for mode, _ in found),
        max((epoch for _, epoch in found), default=0),
    )


@prepared
def _standing_over(venue: str, covering: tuple[str, ...]) -> QuerySet[TradingState, tuple[str, int]]:
    return TradingState.objects.filter(venue=venue, scope__in=covering).values_list("mode", "halted_epoch")


def pause(
    *, venue: str, actor: str, reason: str, scope: str = ALL, version: int | None = None
) -> TradingState:
    """REDUCING: working orders stay, only exits pass. A stop stays a stop: only a resume loosens it."""
    return _set_mode(venue, scope, TradingState.Mode.REDUCING, actor, reason, version)


def halt(*, venue: str, actor: str, reason: str, scope: str = ALL) -> TradingState:
    """HALTED: nothing new, working orders are canceled. Needs no version, for the way out is never blocked.

    Asked for again it is a newer version of the same stop, with its epoch: a resume that was decided before it is
    refused, and it is proven anew, for an order may have appeared since the last proof.
    """
    return _set_mode(venue, scope, TradingState.Mode.HALTED, actor, reason, None)


def reduce(*, venue: str, actor: str, reason: str) -> TradingState:
    """REDUCING, by the desk itself, from ACTIVE alone: what people have paused or stopped stays as they left it."""
    return _set_mode(venue, ALL, TradingState.Mode.REDUCING, actor, reason, None, by_itself=True)


def resume(
    *, venue: str, actor: str, reason: str, scope: str = ALL, version: int | None = None
) -> TradingState:
    """ACTIVE again. With `version`, raises StaleVersion when the state changed since the person saw it.

    Raises ReasonMissing, ResumeRefused while something stands that a person must acknowledge first, and on a live desk
    SecondPersonNeeded after noting the first person's wish.
    """
    if not reason.strip():
        raise ReasonMissing
    if venue == LIVE and not _is_second_person(venue, scope, actor, version):
        raise SecondPersonNeeded(actor)
    return _set_mode(venue, scope, TradingState.Mode.ACTIVE, actor, reason, version)


@transaction.atomic
def fall_quiet(*, venue: str, lasting: timedelta) -> TradingState:
    """Keep every order but a person's own exit back for so long: the exchange might cancel what comes now.

    It is no state of its own: what a person saw, and decides on, stays the same.
    """
    row = trading_state(venue, lock=True)
    row.quiet_until = timezone.now() + lasting
    TradingState.objects.filter(pk=row.pk).update(quiet_until=row.quiet_until)
    return row


@prepared
def uncleared(venue: str) -> QuerySet[TradingState]:
    """The stops that are not proven to be at rest yet."""
    return TradingState.objects.filter(venue=venue, mode=TradingState.Mode.HALTED.value, cleared_at=None)


@transaction.atomic
def note_cleared(row: TradingState) -> bool:
    """No order that this stop covers rests on the exchange any more: its own list has said so. True the first time.

    The version stays: what a person saw, and decides on, is the same stop.
    """
    rows = TradingState.objects.filter(pk=row.pk, version=row.version, mode=TradingState.Mode.HALTED)
    if not rows.filter(cleared_at=None).update(cleared_at=timezone.now()):
        return False
    _remember(row, row.mode, "execution", "no working order is left, by the exchange's own list")
    live.changed("trading", key=_key(row), version=row.version, kind="cleared")
    return True


@transaction.atomic
def _set_mode(
    venue: str,
    scope: str,
    mode: TradingState.Mode,
    actor: str,
    reason: str,
    version: int | None,
    *,
    by_itself: bool = False,
) -> TradingState:
    everything = trading_state(venue, lock=True)
    row = everything if scope == ALL else trading_state(venue, scope=scope, lock=True)
    if version is not None and version != row.version:
        raise StaleVersion(row, version, row)
    is_again = row.mode == mode == TradingState.Mode.HALTED
    if not is_again and (row.mode == mode or (by_itself and row.mode != TradingState.Mode.ACTIVE)):
        return row
    if mode == TradingState.Mode.REDUCING and row.mode == TradingState.Mode.HALTED:
        return row  # a pause asks neither why nor a second person: it must not do what a resume asks them for
    if mode == TradingState.Mode.ACTIVE:
        _require_no_objection(venue)
    epochs: dict[str, Any] = {}
    if mode == TradingState.Mode.HALTED and not is_again:
        epochs = {"halted_epoch": everything.kill_epoch + 1, "halted_at": timezone.now()}
        TradingState.objects.filter(pk=everything.pk).update(kill_epoch=everything.kill_epoch + 1)
    fresh = compare_and_set(
        row,
        mode=mode,
        reason=reason or (row.reason if is_again else ""),
        changed_by=actor,
        changed_at=timezone.now(),
        cleared_at=None,
        resume_asked_by="",
        **epochs,
    )
    _remember(fresh, row.mode, actor, reason)
    _tell(fresh, actor, reason, by_itself=by_itself)
    return fresh


def _tell(row: TradingState, actor: str, reason: str, *, by_itself: bool = False) -> None:
    audit.record(
        actor=actor,
        actor_kind="system" if by_itself else "person",
        verb=_VERBS[row.mode],
        object_type="trading_state",
        object_id=_key(row),
        reason=reason,
    )
    for waker in _wakers:  # noted first, so that execution is woken before pages are told
        transaction.on_commit(waker, robust=True)
    live.changed("trading", key=_key(row), version=row.version, kind=row.mode.lower())


@transaction.atomic
def _is_second_person(venue: str, scope: str, actor: str, version: int | None) -> bool:
    """Whether another person has asked shortly before; if not, the wish is noted, with its audit row."""
    trading_state(venue, lock=True)  # everything first, as each change does
    row = trading_state(venue, scope=scope, lock=True)
    if version is not None and version != row.version:
        raise StaleVersion(row, version, row)
    asked_at = row.resume_asked_at
    fresh = asked_at is not None and timezone.now() - asked_at <= SECOND_WITHIN
    if fresh and is_another(row.resume_asked_by, actor):
        return True
    TradingState.objects.filter(pk=row.pk).update(resume_asked_by=actor, resume_asked_at=timezone.now())
    audit.record(actor=actor, verb="trading.resume_asked", object_type="trading_state", object_id=_key(row))
    return False


def _require_no_objection(venue: str) -> None:
    for source in _objections:
        if reason := source(venue):
            raise ResumeRefused(reason)


def _remember(row: TradingState, before: str, actor: str, reason: str) -> None:
    TradingStateEvent.objects.create(
        trading_state=row,
        version=row.version,
        from_state=before,
        to_state=row.mode,
        actor=actor,
        reason=reason,
    )


def _key(row: TradingState) -> str:
    """How the state is named in audit and announcements."""
    return f"{row.venue} {row.scope}".strip()
