"""How a run comes to rest: execution and the update loop work on until nothing is wrong any more, or time is over."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Collection

from approvals.models import Proposal
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.models import TradingState
from tests.reliability import desk, oracle
from tests.reliability.desk import Seat
from trading.exchange.errors import ExchangeError
from trading.execution import cancels
from trading.execution.cancels import NotCancelable
from trading.market_data import drift
from trading.models import DriftNote, Order

PAUSE = 0.3  # seconds between two looks: as often as the desk compares itself, at a fifteenth of its time


def call_off(tickers: Collection[str]) -> None:
    """Ask for the cancel of these markets' orders, once they stand."""
    standing = Order.objects.open().filter(ticker__in=tickers, cancel_requested_at=None)
    for order in standing.exclude(venue_order_id=None):
        try:
            cancels.request_cancel(order=order, actor="approver1")
        except NotCancelable:  # it has ended meanwhile
            continue


def let_trade() -> None:
    """The operator goes on after each pause that an odd answer brings: else one fault would hide all others."""
    if risk.trading_state("paper").mode == TradingState.Mode.ACTIVE:
        return
    for note in DriftNote.objects.standing("paper"):
        with contextlib.suppress(StaleVersion):
            drift.acknowledge(note=note, actor="operator", reason="a planned fault")
    with contextlib.suppress(risk.ResumeRefused):  # one more in this very moment
        risk.resume(venue="paper", actor="operator", reason="a planned fault")


def is_reached(canceled: Collection[str]) -> bool:
    """Whether nothing waits for execution or for evidence."""
    unproven = Order.objects.filter(state__in=("sending", "unknown"))
    wanted = Order.objects.open().filter(ticker__in=canceled)
    return not ((unproven | wanted).exists() or Proposal.objects.filter(state="approved").exists())


def faults_after(seat: Seat, canceled: Collection[str], within: float) -> list[str]:
    """What is still wrong when all has come to rest or `within` seconds are over. What was sent twice stays so."""
    deadline = time.monotonic() + within
    while (found := _look(seat, canceled)) and time.monotonic() < deadline:
        if any(fault.startswith("doubled") for fault in found):
            break
        time.sleep(PAUSE)
    return found


def states() -> Counter[str]:
    """How orders ended, and how many approvals were voided instead."""
    voided = Proposal.objects.filter(state="voided").count()
    return Counter(Order.objects.values_list("state", flat=True)) + Counter(voided=voided)


def _look(seat: Seat, canceled: Collection[str]) -> list[str]:
    call_off(canceled)
    try:
        desk.update(seat.tempo)
    except ExchangeError as error:
        return [f"the exchange cannot be read: {error!r}"]
    waiting = [] if is_reached(canceled) else [f"not at rest: {dict(states())}"]
    return waiting + oracle.faults(seat.venue, seat.stage)
