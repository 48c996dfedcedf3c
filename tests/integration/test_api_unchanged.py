"""304 means that nothing in the answer differs: only answers that move with their tag as a whole ever say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django.test import RequestFactory
from django.utils import timezone
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kalshi_site.api.door import door
from kalshi_site.api.urls import v1
from portfolio import ledger, risk
from portfolio.models import Position
from tests import factories
from tests.callers import Caller
from trading.domain.orders import BookSide
from trading.execution import work_items
from trading.execution.work_items import Difference
from trading.models import Cycle, Order, Quote, WorkItem, WorkKind

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]

VENUE = factories.VENUE
CASH = Difference(WorkKind.CASH_DRIFT, "cash", theirs="10500", ours="10000")
READ: list[str] = [str(each.pattern) for each in v1 if hasattr(each.callback.cls, "get")]  # type: ignore[attr-defined]
# Every column that these show is written together with the row's version, or with the topic's number.
MOVE_AS_A_WHOLE = {
    *("proposals/<name:public_id>", "orders/<name:public_id>", "trading/autonomy"),
    "state",
}
QUERIES = {"state": "?topic=orders"}


@dataclass(frozen=True)
class Desk:
    """One of everything that an address may name."""

    order: Order
    position: Position
    item: WorkItem

    def path(self, address: str) -> str:
        """Raises KeyError for an address that names what is not here yet: make one."""
        names: Mapping[str, str] = {
            "orders/<name:public_id>": self.order.public_id,
            "proposals/<name:public_id>": self.order.proposal.public_id if self.order.proposal else "",
            "positions/<name:ticker>": self.position.ticker,
            "markets/<name:ticker>": self.position.ticker,
            "markets/<name:ticker>/orderbook": self.position.ticker,
            "markets/<name:ticker>/history": self.position.ticker,
            "reconciliation/<name:public_id>": self.item.public_id,
        }
        if "<" not in address:
            return f"/{address}{QUERIES.get(address, '')}"
        before, rest = address.split("<")
        return f"/{before}{names[address]}{rest.split('>')[1]}"


@pytest.fixture
def desk() -> Desk:
    now = timezone.now()
    factories.funded()
    order = factories.OrderFactory()
    position = ledger.book_fill(
        venue=VENUE,
        ticker=order.ticker,
        event_ticker=order.event_ticker,
        title=order.title,
        book_side=BookSide.BID,
        count=Decimal(4),
        yes_price=Decimal("0.49"),
        fee=Decimal("0.07"),
        reference="trade-1",
        at=now,
    )
    Cycle.objects.create(
        loop="update", slot=1, started_at=now, finished_at=now, outcome="clean", detail={"venue": VENUE}
    )
    return Desk(order, position, work_items.report(VENUE, CASH))


@pytest.fixture
def viewer() -> Caller:
    return Caller.of("viewer")


def shown_to_one_who_knows(caller: Caller, path: str, tag: str) -> Any:
    """The body for a script that has the tag already. It is the tag still, so a bare 304 would say "as before"."""
    answer = caller.get(path, If_None_Match=tag)
    assert (answer.status_code, answer["ETag"]) == (200, tag)
    return answer.json()


@pytest.mark.parametrize("address", READ)
def test_only_what_moves_with_its_tag_as_a_whole_is_ever_unchanged(
    desk: Desk, viewer: Caller, address: str
) -> None:
    first = viewer.get(desk.path(address))
    assert first.status_code == 200, first.content
    again = viewer.get(desk.path(address), If_None_Match=first.get("ETag", '"v1"'))
    assert again.status_code == (304 if address in MOVE_AS_A_WHOLE else 200)
    assert again.get("ETag") == first.get("ETag"), "the version to name in If-Match stays"


def test_a_new_view_says_unchanged_only_once_it_asks_to() -> None:
    class Fresh(APIView):
        permission_classes = (AllowAny,)

        def get(self, request: Request) -> Response:
            return Response({"version": 3, "mark": "0.4800"})

    class Whole(Fresh):
        moves_with_tag = True

    request = RequestFactory().get("/", headers={"If-None-Match": '"v3"'})
    fresh, whole = door(Fresh)(request), door(Whole)(request)
    assert (fresh.status_code, fresh.headers["ETag"]) == (200, '"v3"')
    assert (whole.status_code, whole.headers["ETag"]) == (304, '"v3"')


def test_a_stop_of_one_scope_is_told_to_whoever_has_the_states_tag(viewer: Caller) -> None:
    tag = viewer.get("/trading/state")["ETag"]
    risk.halt(venue=VENUE, scope="series:SIMTEST", actor="risk1", reason="odd prices")
    told = shown_to_one_who_knows(viewer, "/trading/state", tag)
    assert (told["kill_epoch"], [each["scope"] for each in told["standing"]]) == (1, ["series:SIMTEST"])


def test_a_stop_that_has_come_to_rest_is_told_to_whoever_has_its_tag(viewer: Caller) -> None:
    stop = risk.halt(venue=VENUE, actor="risk1", reason="drill")
    tag = viewer.get("/trading/state")["ETag"]
    assert risk.note_cleared(stop)
    assert shown_to_one_who_knows(viewer, "/trading/state", tag)["cleared_at"] is not None


def test_a_mark_that_moves_is_told_to_whoever_has_the_positions_tag(desk: Desk, viewer: Caller) -> None:
    path = desk.path("positions/<name:ticker>")
    first = viewer.get(path)
    assert (first.json()["mark"], first.json()["unrealized"]) == ("0.4800", "-0.040000")
    Quote.objects.update(yes_bid=Decimal("0.10"))
    told = shown_to_one_who_knows(viewer, path, first["ETag"])
    assert (told["mark"], told["unrealized"]) == ("0.1000", "-1.560000")


def test_another_look_is_told_to_whoever_has_the_items_tag(desk: Desk, viewer: Caller) -> None:
    path = desk.path("reconciliation/<name:public_id>")
    first = viewer.get(path)
    work_items.take_in(VENUE, [CASH], reads_as_of=None)
    assert shown_to_one_who_knows(viewer, path, first["ETag"])["looks"] == first.json()["looks"] + 1


def test_objects_that_come_along_with_a_topic_are_sent_whatever_its_number(
    desk: Desk, viewer: Caller
) -> None:
    path = "/state?topic=reconciliation&expand=object"
    first = viewer.get(path)
    work_items.take_in(VENUE, [CASH], reads_as_of=None)
    (told,) = shown_to_one_who_knows(viewer, path, first["ETag"])["snapshot"]
    assert told["object"]["looks"] == first.json()["snapshot"][0]["object"]["looks"] + 1
