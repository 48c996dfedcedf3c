"""What each kind of difference means, how sure it is at first sight, and what a person does about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from trading.models import WorkItem, WorkKind

Area = Literal["orders", "fills", "positions", "cash", "settlements"]
AREAS: Final[tuple[Area, ...]] = ("orders", "fills", "positions", "cash", "settlements")

CRITICAL, WARNING = WorkItem.Severity.CRITICAL, WorkItem.Severity.WARNING


@dataclass(frozen=True, slots=True)
class Rule:
    """`is_sure`: one look is enough, for it cannot be lag. `pauses`: nothing new is traded while nobody has looked.

    `ends_itself`: resolved once a comparison does not see it any more; the others end by a person alone. `advice` may
    name {subject}, {ticker} and {order}; `command` likewise; `page` is where to look.
    """

    area: Area
    severity: WorkItem.Severity
    title: str
    advice: str
    command: str = ""
    page: str = ""
    is_sure: bool = False
    pauses: bool = False
    ends_itself: bool = True
    is_acceptable: bool = False  # a person may book the exchange's number


KINDS: Final[Mapping[WorkKind, Rule]] = {
    WorkKind.ORPHAN_ORDER: Rule(
        "orders",
        CRITICAL,
        "An order of ours that we have no record of",
        "It carries our mark, or has a fill while the exchange does not show the order; no approval of this database"
        " sent it: a second desk with this key, or a restored backup. Find out which; cancel it if nobody can say.",
        command="manage.py proposals list",
        page="/orders/{order}",
        is_sure=True,
        pauses=True,
        ends_itself=False,
    ),
    WorkKind.ABSENT_APPEARED: Rule(
        "orders",
        CRITICAL,
        "An order that was judged absent has appeared",
        "It was taken back and its rest is being canceled. Look at what it filled, and whether its proposal was made"
        " a second time meanwhile.",
        page="/orders/{order}",
        is_sure=True,
        ends_itself=False,
    ),
    WorkKind.ENDED_ORDER_RESTS: Rule(
        "orders",
        CRITICAL,
        "An order that is over in our records still rests on the exchange",
        "It may fill at any moment. Stop the market: that cancels by the exchange's own list, whatever our records"
        " say.",
        command="manage.py trade halt --scope market:{ticker}",
        page="/orders/{order}",
        pauses=True,
    ),
    WorkKind.CHANGED_ELSEWHERE: Rule(
        "orders",
        CRITICAL,
        "An order of ours was changed elsewhere",
        "It rests at a price or for a quantity that nobody approved, and ends at its expiry, which is not moved on any"
        " more. Cancel it if that is too late; what it fills until then is booked.",
        page="/orders/{order}",
        pauses=True,
    ),
    WorkKind.UNKNOWN_ORDER: Rule(
        "orders",
        WARNING,
        "The outcome of an order is not known",
        "Do not send it again. Its cost stays reserved and the desk asks until there is proof; if that takes longer"
        " than five minutes, look for it on the exchange's own page.",
        page="/orders/{order}",
        is_sure=True,
    ),
    WorkKind.MISSING_FILL: Rule(
        "fills",
        WARNING,
        "The exchange counts a fill that it has not told us",
        "The order's count says so, the list of fills does not show it. Compare row by row; the fill is booked as soon"
        " as a list shows it.",
        command="manage.py reconcile --rows",
        page="/orders/{order}",
    ),
    WorkKind.POSITION_DRIFT: Rule(
        "positions",
        CRITICAL,
        "A position differs",
        "Compare row by row: it names the fill or settlement that one side lacks. If it came from outside (a transfer,"
        " a correction by the exchange), accept the exchange's number.",
        command="manage.py reconcile --rows",
        page="/markets/{ticker}",
        pauses=True,
        is_acceptable=True,
    ),
    WorkKind.CASH_DRIFT: Rule(
        "cash",
        CRITICAL,
        "Cash differs",
        "A deposit, a withdrawal, a rebate or interest? Then accept the exchange's number. If not, compare row by row.",
        command="manage.py reconcile --rows",
        page="/positions",
        pauses=True,
        is_acceptable=True,
    ),
    WorkKind.SETTLEMENT_WITHOUT_VALUE: Rule(
        "settlements",
        WARNING,
        "A market is settled, and nothing says at what value",
        "It is paid in our books as soon as the exchange names the value. Look at the market's page there.",
        page="/markets/{ticker}",
        is_sure=True,
    ),
    WorkKind.ODD_RECORD: Rule(
        "orders",
        WARNING,
        "A record of the exchange cannot be taken in",
        "Everything else was compared. Read what is wrong with it; a program's fault is reported with this text.",
        command="manage.py reconcile --json",
    ),
}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a person does about an item: words, a command for a terminal (or ""), a page of the desk (or "")."""

    text: str
    command: str
    page: str


def rule_of(item: WorkItem) -> Rule:
    return KINDS[WorkKind(item.kind)]


def suggestion(item: WorkItem) -> Suggestion:
    """The advice of the item's kind with its own names filled in; a page is left out where the name is missing."""
    rule = rule_of(item)
    names = {"subject": item.subject, "ticker": item.ticker, "order": item.order}
    lacks = any(f"{{{name}}}" in rule.page and not value for name, value in names.items())
    return Suggestion(
        rule.advice.format(**names),
        rule.command.format(**names),
        "" if lacks else rule.page.format(**names),
    )
