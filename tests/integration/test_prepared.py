"""What was written once asks and changes the same as a queryset that is written anew each time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet, Sum
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from approvals.models import Proposal, ProposalEvent
from kalshi_site.models import AuditEntry, Lease
from kalshi_site.prepared import LONG, MOST_SHAPES, Statement, insert, prepared, update
from portfolio.models import Reservation, TradingState
from tests import factories
from trading.models import Market, Order

D = Decimal
VENUE = factories.VENUE

pytestmark = pytest.mark.django_db


@prepared
def of_ticker(tickers: tuple[str, ...]) -> QuerySet[Market]:
    return Market.objects.for_rules().filter(ticker__in=tickers).order_by("ticker")


@prepared
def in_both(tickers: tuple[str, ...], others: tuple[str, ...]) -> QuerySet[Market]:
    return Market.objects.filter(ticker__in=tickers).filter(ticker__in=others)


@prepared
def in_state(venue: str, state: str) -> QuerySet[Proposal]:
    return Proposal.objects.terms_alone().filter(venue=venue, state=state).order_by("pk")


@prepared
def later_than(at: Any) -> QuerySet[Proposal, int]:
    return Proposal.objects.filter(deadline_at__gt=at).order_by("pk").values_list("pk", flat=True)


@prepared
def quantities(venue: str) -> QuerySet[Any, tuple[str, Decimal]]:
    rows = Proposal.objects.filter(venue=venue).order_by().values("venue")
    return rows.annotate(total=Sum("quantity")).values_list("venue", "total")


@prepared
def locked(scope: str) -> QuerySet[TradingState]:
    return TradingState.objects.select_for_update().filter(scope=scope)


@prepared
def nothing_in_particular() -> QuerySet[TradingState]:
    return TradingState.objects.all()


def in_another_thread(ask: Callable[[], Any]) -> Any:
    """What `ask` finds over a connection of its own."""

    def asked() -> Any:
        try:
            return ask()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asked).result()


def plain(row: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if name != "_state"}


def test_the_rows_are_those_of_the_queryset() -> None:
    one, _ = factories.ProposalFactory(), factories.ProposalFactory(state="declined")
    anew = Proposal.objects.terms_alone().get(pk=one.pk)
    (found,) = in_state(VENUE, "pending")
    assert plain(found) == plain(anew)
    assert found.get_deferred_fields() == anew.get_deferred_fields()
    assert found.rules_text == one.rules_text  # read when it is asked for
    (market,) = of_ticker((one.ticker,))
    assert plain(market.quote) == plain(Market.objects.for_rules().get(ticker=one.ticker).quote)
    assert quantities(VENUE) == [(VENUE, Proposal.objects.aggregate(total=Sum("quantity"))["total"])]


def test_each_call_asks_with_its_own_values() -> None:
    pending, declined = factories.ProposalFactory(), factories.ProposalFactory(state="declined")
    assert in_state(VENUE, "pending") == [pending]
    assert in_state(state="declined", venue=VENUE) == [declined]
    assert in_state("demo", "pending") == []
    assert in_state.first(VENUE, "declined") == declined
    assert in_state.first("demo", "declined") is None


def test_a_naive_question_that_keeps_its_first_values_would_not_pass_that() -> None:
    first: list[QuerySet[Proposal]] = []

    def naive(state: str) -> list[Proposal]:
        if not first:
            first.append(Proposal.objects.filter(state=state))
        return list(first[0].all())

    pending, _ = factories.ProposalFactory(), factories.ProposalFactory(state="declined")
    assert naive("pending") == naive("declined") == [pending]


def test_a_list_may_have_any_length_and_few_are_kept() -> None:
    tickers = sorted(factories.quoted_market().ticker for _ in range(3))
    for length in (0, 1, 3, 2):
        assert [row.ticker for row in of_ticker(tuple(tickers[:length]))] == tickers[:length]
    assert [row.ticker for row in of_ticker((*tickers, *["none"] * LONG))] == tickers
    for length in range(2 * LONG):
        of_ticker(("none",) * length)
    assert len(of_ticker._written) <= LONG + 1
    for length in range(2 * MOST_SHAPES):
        in_both(("none",) * (length % LONG), ("none",) * (length // LONG))
    assert len(in_both._written) <= MOST_SHAPES


def test_times_compare_as_times() -> None:
    proposal = factories.ProposalFactory()
    assert later_than(proposal.deadline_at - timedelta(microseconds=1)) == [proposal.pk]
    assert later_than(proposal.deadline_at) == []


@pytest.mark.parametrize("value", [None, D("0.5"), 0.5, b"pending"])
def test_a_value_that_a_database_would_read_in_its_own_way_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="neither text nor a whole number nor a time"):
        in_state(VENUE, value)


def test_a_question_that_makes_another_text_of_its_argument_is_refused() -> None:
    @prepared
    def worded(ticker: str) -> QuerySet[Market]:
        return Market.objects.filter(ticker=f"{ticker}-1")

    with pytest.raises(TypeError, match="not known yet"):
        worded("KX")


@pytest.mark.django_db(transaction=True)
def test_a_row_is_locked_inside_a_transaction_alone() -> None:
    with transaction.atomic():
        assert locked("") == []
    with pytest.raises(transaction.TransactionManagementError):
        locked("")


@pytest.mark.django_db(transaction=True)
def test_each_thread_asks_over_its_own_connection() -> None:
    nothing_in_particular()

    def ask() -> int:
        with CaptureQueriesContext(connection) as seen:
            nothing_in_particular()
        return len(seen)

    with CaptureQueriesContext(connection) as here:
        there = in_another_thread(ask)
    assert (there, len(here)) == (1, 0)


def test_an_update_changes_what_matches_and_counts_it() -> None:
    proposal = factories.ProposalFactory(limit_price=D("0.4200"))
    where = {
        "pk": proposal.pk,
        "limit_price": D("0.42"),
        "decided_at": None,
        "deadline_at__gt": timezone.now(),
    }
    changes = {"decision_reason": "because", "decided_at": timezone.now(), "approvals_count": 1}
    assert update(Proposal, where={**where, "version": proposal.version + 1}, changes=changes) == 0
    assert update(Proposal, where=where, changes=changes) == 1
    assert update(Proposal, where=where, changes=changes) == 0  # decided_at is no longer empty
    fresh = Proposal.objects.get(pk=proposal.pk)
    assert {name: getattr(fresh, name) for name in changes} == changes
    assert update(Proposal, where={"pk": proposal.pk}, changes={"decided_at": None}) == 1
    assert Proposal.objects.get(pk=proposal.pk).decided_at is None


def test_an_insert_leaves_the_row_that_save_would() -> None:
    fields = {
        "venue": VENUE,
        "ticker": "KX-1",
        "event_ticker": "KX",
        "signed_quantity": D("-1.50"),
        "unit_cost": D("0.123456"),
        "unit_fee": D(0),
        "created_at": timezone.now(),
    }
    saved = Reservation.objects.create(key="saved", **fields)
    inserted = insert(Reservation(key="inserted", **fields))
    assert inserted.pk == Reservation.objects.get(key="inserted").pk > saved.pk
    ignored = {"id", "key"}
    rows = [plain(Reservation.objects.get(key=key)) for key in ("saved", "inserted")]
    assert rows[0] | dict.fromkeys(ignored) == rows[1] | dict.fromkeys(ignored)
    assert not inserted._state.adding
    inserted.unit_fee = D("0.01")
    inserted.save()  # changes it, and makes no second one
    assert Reservation.objects.filter(key="inserted").count() == 1


def test_an_insert_takes_json_and_keys_that_are_text() -> None:
    entry = insert(
        AuditEntry(at=timezone.now(), actor="a", verb="v", detail={"count": "1.5", "list": [1, None]})
    )
    assert AuditEntry.objects.get(pk=entry.pk).detail == {"count": "1.5", "list": [1, None]}
    assert insert(Lease(name="loop", expires_at=timezone.now())).pk == "loop"


def test_a_row_that_breaks_a_rule_breaks_the_transaction_too() -> None:
    proposal = factories.ProposalFactory()
    one = {"venue": VENUE, "key": "one", "signed_quantity": 1, "unit_cost": 0, "unit_fee": 0}
    with transaction.atomic():
        insert(Reservation(**one))
        with pytest.raises(IntegrityError):
            insert(Reservation(**one))
        assert transaction.get_rollback()
    assert not Reservation.objects.exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        update(Proposal, where={"pk": proposal.pk}, changes={"quantity": D(-1)})
    assert Proposal.objects.get(pk=proposal.pk).quantity == proposal.quantity


def test_guards_see_what_is_written_so() -> None:
    proposal = factories.ProposalFactory()
    event = insert(ProposalEvent(proposal=proposal, version=1, to_state="pending", actor="a"))
    for model, pk in ((ProposalEvent, event.pk), (AuditEntry, insert(AuditEntry(at=timezone.now())).pk)):
        with pytest.raises(IntegrityError), transaction.atomic():
            update(model, where={"pk": pk}, changes={"actor": "somebody else"})
    assert not Order.objects.exists()


def test_who_listens_to_what_is_executed_hears_these_too() -> None:
    """Naive: the driver is asked itself whoever listens, and a loop that was overtaken goes on writing."""
    proposal, heard = factories.ProposalFactory(), list[str]()

    def listen(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        heard.append(sql.split(maxsplit=1)[0])
        return execute(sql, *rest)

    with connection.execute_wrapper(listen):
        in_state(VENUE, "pending")
        update(Proposal, where={"pk": proposal.pk}, changes={"decision_reason": "seen"})
        insert(ProposalEvent(proposal=proposal, version=1, to_state="pending", actor="a"))
    in_state(VENUE, "pending")
    assert heard == ["SELECT", "UPDATE", "INSERT"]


def test_in_a_broken_transaction_nothing_is_asked() -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            in_state(VENUE, "pending")


def test_a_statement_of_ones_own_is_in_djangos_spelling() -> None:
    assert Statement("SELECT '5%%', '%%s', %s").run([7])[0] == [("5%", "%s", 7)]
