"""The nets at the exchange and our own throttle: what opens goes into a group, a trip pauses, only a person resets."""

from __future__ import annotations

import uuid
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import locks
from kalshi_site.models import AuditEntry, ChangeLog
from portfolio import risk
from portfolio.models import Position
from tests import factories
from tests.callers import Caller, code_of
from tests.factories import approved
from tests.fakes import FakeExchange, FakeGroups
from trading.exchange.errors import NoAnswer
from trading.exchange.outcomes import Refused, Unknown
from trading.execution import claims
from trading.execution import router as router_room
from trading.execution.claims import ClaimRules
from trading.execution.exits import close_position
from trading.execution.nets import Nets, ask_to_reset, trip
from trading.execution.router import Router
from trading.models import Order, OrderGroup

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def groups() -> FakeGroups:
    return FakeGroups()


class Seconds:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def nets(groups: FakeGroups, clock: Seconds | None = None, contracts: int = 100) -> Nets:
    return Nets(VENUE, groups, groups, D(contracts), monotonic=clock or Seconds())  # type: ignore[arg-type]


def desk(exchange: FakeExchange, net: Nets | None, **rules: Any) -> Router:
    rules = {"needs_group": net is not None, **rules}
    return Router(VENUE, exchange, uuid.UUID(int=1), rules=ClaimRules(**rules), nets=net)


def state() -> Any:
    return risk.trading_state(VENUE)


def send_all(router: Router, held: locks.Held) -> int:
    """Rounds until one sends nothing: a round is bounded in time."""
    sent = 0
    while more := router.round(held):
        sent += more
    return sent


# --- the group


def test_what_opens_goes_into_the_one_group_of_its_shard(
    exchange: FakeExchange, groups: FakeGroups, held: locks.Held
) -> None:
    net = nets(groups)
    for _ in range(2):
        approved()
        assert desk(exchange, net).round(held) == 1
    assert [sent["order_group_id"] for sent in exchange.sent] == ["group-1", "group-1"]
    assert groups.limits == {"group-1": D(100)}
    assert AuditEntry.objects.filter(verb="order_group.created").count() == 1


def test_the_group_outlives_the_process_that_made_it(
    exchange: FakeExchange, groups: FakeGroups, held: locks.Held
) -> None:
    assert nets(groups).ensure(0)
    approved()
    desk(exchange, nets(groups)).round(held)
    assert groups.calls == ["create"]


def test_without_its_net_nothing_opens_and_the_approval_waits(
    exchange: FakeExchange, groups: FakeGroups, held: locks.Held
) -> None:
    """Naive: send it without a group when none can be made."""
    groups.failing, clock = Unknown("no answer"), Seconds()
    net, proposal = nets(groups, clock), approved()
    for _ in range(3):
        assert desk(exchange, net).round(held) == 0
    assert groups.calls == ["create"]  # not once a second
    proposal.refresh_from_db()
    assert (proposal.state, exchange.sent) == ("approved", [])
    groups.failing, clock.now = None, clock.now + 11
    assert desk(exchange, net).round(held) == 1


def test_a_shard_without_a_net_keeps_no_other_shard_waiting_and_is_tried_once_a_round(
    exchange: FakeExchange, groups: FakeGroups, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: each of its approvals is judged and rolled back, and the others' time runs out meanwhile."""
    bare = factories.quoted_market(exchange_index=1)
    waiting = [approved(market=bare) for _ in range(3)]
    approved()
    tried: list[str] = []
    real = claims.claim

    def counted(proposal: Proposal, **how: Any) -> Order | None:
        tried.append(proposal.public_id)
        return real(proposal, **how)

    monkeypatch.setattr(router_room, "claim", counted)
    net = nets(groups)
    assert net.ensure(0)
    groups.create = lambda **_: Unknown("no answer")  # type: ignore[method-assign, assignment]
    assert desk(exchange, net).round(held) == 1
    assert len(tried) == 2, "one of the shard without a net, and the other shard's"
    assert {Proposal.objects.get(pk=each.pk).state for each in waiting} == {"approved"}


def test_the_claim_itself_refuses_to_open_without_a_net(exchange: FakeExchange, held: locks.Held) -> None:
    approved()
    assert desk(exchange, None, needs_group=True).round(held) == 0
    assert not Order.objects.exists()


def test_an_exit_needs_no_net_and_goes_into_none(
    exchange: FakeExchange, groups: FakeGroups, held: locks.Held
) -> None:
    """Naive: put every order into the group. Then a tripped net keeps us in."""
    factories.funded()
    market = factories.quoted_market()
    Position.objects.create(venue=VENUE, ticker=market.ticker, event_ticker="E", quantity=D(10), cost=D(4))
    net = nets(groups)
    net.ensure(0)
    groups.tripped.add("group-1")
    net.look()
    assert state().mode == "REDUCING"
    close_position(venue=VENUE, ticker=market.ticker, actor="operator")
    assert desk(exchange, net).round(held) == 1
    assert exchange.sent[0].get("order_group_id") is None
    assert exchange.sent[0]["reduce_only"] is True


def test_a_group_that_the_exchange_has_lost_is_made_anew(
    exchange: FakeExchange, groups: FakeGroups, held: locks.Held
) -> None:
    net = nets(groups)
    net.ensure(0)
    exchange.behaviour = lambda *_: Refused(400, "order_group_not_found", "no such group")
    approved()
    desk(exchange, net).round(held)
    assert OrderGroup.of_shard(VENUE, 0) is None
    assert net.ensure(0)
    assert (group := OrderGroup.of_shard(VENUE, 0)) and group.venue_group_id == "group-2"


def test_the_database_keeps_one_standing_group_per_shard() -> None:
    OrderGroup.objects.create(venue=VENUE, venue_group_id="a", contracts_limit=D(1))
    with pytest.raises(IntegrityError):
        OrderGroup.objects.create(venue=VENUE, venue_group_id="b", contracts_limit=D(1))


def test_a_new_limit_of_the_settings_reaches_the_exchange(groups: FakeGroups) -> None:
    nets(groups).ensure(0)
    nets(groups, contracts=50).look()
    assert groups.limits == {"group-1": D(50)}
    assert OrderGroup.objects.get().contracts_limit == D(50)


# --- tripped


def test_a_tripped_net_pauses_trading_says_why_and_is_audited(groups: FakeGroups) -> None:
    net = nets(groups)
    net.ensure(0)
    groups.tripped.add("group-1")
    net.look()
    assert state().mode == "REDUCING"
    assert state().reason == "E315 order group tripped: more than 100 contracts matched in 15 seconds"
    assert AuditEntry.objects.get(verb="order_group.tripped").actor == "exchange"


def test_a_refused_order_tells_of_the_trip_before_the_list_does(
    exchange: FakeExchange, groups: FakeGroups, held: locks.Held
) -> None:
    exchange.behaviour = lambda *_: Refused(400, "exceeded_order_group_risk_limit", "limit")
    approved()
    ahead, later = approved(), approved()
    desk(exchange, nets(groups)).round(held)
    assert (state().mode, len(exchange.sent)) == ("REDUCING", 1)
    assert Order.objects.get(proposal=ahead).state == "not_sent", (
        "it was claimed before the first was refused"
    )
    later.refresh_from_db()
    assert later.state == "voided"


def told() -> list[tuple[str, str]]:
    """The changes of the topic `trading`: key and kind."""
    return list(ChangeLog.objects.filter(topic="trading").order_by("version").values_list("key", "kind"))


def test_a_trip_is_announced_also_when_trading_is_paused_already(groups: FakeGroups) -> None:
    """Naive: leave it to the pause. Where trading is paused, nobody would learn of the trip."""
    net = nets(groups)
    net.ensure(0)
    risk.pause(venue=VENUE, actor="operator", reason="lunch")
    ask_to_reset(venue=VENUE, actor="operator", reason="nothing to reset")
    groups.tripped.add("group-1")
    net.look()
    assert told() == [("paper group 0", "created"), ("paper", "reducing"), ("paper group 0", "tripped")]


def test_what_is_done_to_a_shards_net_is_announced_with_numbers_that_grow(groups: FakeGroups) -> None:
    clock = Seconds()
    net = nets(groups, clock)
    net.ensure(0)
    for refused in (None, Refused(404, "not_found", "no such group")):
        groups.tripped.add("group-1")
        clock.now += 60
        net.look()
        ask_to_reset(venue=VENUE, actor="operator", reason="fixed")
        groups.failing = refused
        net.look()
    groups.failing = None
    net.ensure(0)
    changes = list(ChangeLog.objects.filter(key="paper group 0").order_by("version"))
    assert [each.kind for each in changes] == [
        *("created", "tripped", "reset_asked", "reset"),
        *("tripped", "reset_asked", "closed", "created"),
    ]
    numbers = [each.object_version for each in changes]
    assert numbers == sorted(set(numbers))


def test_a_trip_that_comes_to_nothing_is_not_announced(groups: FakeGroups) -> None:
    net = nets(groups)
    net.ensure(0)
    group = OrderGroup.objects.get()
    assert trip(group, actor="exchange", reason="once")
    assert not trip(group, actor="exchange", reason="twice")
    assert told().count(("paper group 0", "tripped")) == 1


def test_who_asks_for_the_state_gets_a_tripped_net_without_an_object(groups: FakeGroups) -> None:
    nets(groups).ensure(0)
    trip(OrderGroup.objects.get(), actor="exchange", reason="too many")
    state_of = Caller.of("viewer").get("/state?topic=trading&expand=object").json()["snapshot"]
    assert {each["id"]: each["object"] and each["object"]["mode"] for each in state_of} == {
        "paper": "REDUCING",
        "paper group 0": None,
    }


def test_a_stop_by_a_person_stays_a_stop_when_a_net_trips(groups: FakeGroups) -> None:
    net = nets(groups)
    net.ensure(0)
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    groups.tripped.add("group-1")
    net.look()
    assert (state().mode, state().changed_by) == ("HALTED", "operator")


def test_a_silent_exchange_trips_nothing(groups: FakeGroups, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> Any:
        raise NoAnswer("silence")

    net = nets(groups)
    net.ensure(0)
    monkeypatch.setattr(groups, "order_groups", silent)
    net.look()
    assert state().mode == "ACTIVE"


def test_only_a_person_resets_and_then_resumes(
    exchange: FakeExchange, groups: FakeGroups, held: locks.Held
) -> None:
    """Naive: reset what has tripped and go on. It would trip again, and again."""
    clock = Seconds()
    net = nets(groups, clock)
    net.ensure(0)
    groups.tripped.add("group-1")
    net.look()
    for _ in range(3):
        clock.now += 60
        net.look()
    assert groups.tripped == {"group-1"}
    with pytest.raises(risk.ResumeRefused, match=r"E315.*manage\.py trade reset"):
        risk.resume(venue=VENUE, actor="operator", reason="go on")
    with pytest.raises(CommandError, match="E010"):
        call_command("trade", "reset")
    call_command("trade", "reset", reason="the strategy is fixed", stdout=StringIO())
    net.look()
    assert groups.tripped == set()
    assert state().mode == "REDUCING"
    assert AuditEntry.objects.get(verb="order_group.reset").actor.endswith("terminal")
    risk.resume(venue=VENUE, actor="operator", reason="fixed")
    approved()
    assert desk(exchange, net).round(held) == 1


def test_a_reset_without_an_answer_is_repeated_until_the_exchange_confirms(groups: FakeGroups) -> None:
    net = nets(groups)
    net.ensure(0)
    groups.tripped.add("group-1")
    net.look()
    ask_to_reset(venue=VENUE, actor="operator", reason="fixed")
    groups.failing = Unknown("no answer")
    net.look()
    assert OrderGroup.objects.tripped(VENUE).exists()
    groups.failing = None
    net.look()
    assert not OrderGroup.objects.tripped(VENUE).exists()


@pytest.mark.parametrize(
    "refused", [Refused(404, "not_found", "no such group"), Refused(400, "order_group_not_found", "gone")]
)
def test_a_tripped_net_that_the_exchange_has_lost_is_closed_by_the_reset_and_made_anew(
    groups: FakeGroups, refused: Refused
) -> None:
    """Naive: ask again until it is done. It never is, and trading could never be resumed."""
    net = nets(groups)
    net.ensure(0)
    groups.tripped.add("group-1")
    net.look()
    ask_to_reset(venue=VENUE, actor="operator", reason="fixed")
    groups.failing = refused
    net.look()
    assert state().mode == "REDUCING"
    assert AuditEntry.objects.get(verb="order_group.closed").actor == "operator"
    risk.resume(venue=VENUE, actor="operator", reason="fixed")
    groups.failing = None
    assert net.ensure(0)
    assert (group := OrderGroup.of_shard(VENUE, 0)) and group.venue_group_id == "group-2"


@pytest.mark.parametrize("refused", [Refused(403, "forbidden", "no"), Unknown("no answer")])
def test_a_reset_that_is_refused_for_another_reason_closes_nothing(groups: FakeGroups, refused: Any) -> None:
    net = nets(groups)
    net.ensure(0)
    groups.tripped.add("group-1")
    net.look()
    ask_to_reset(venue=VENUE, actor="operator", reason="fixed")
    groups.failing = refused
    net.look()
    assert OrderGroup.objects.tripped(VENUE).exists()


def test_a_group_that_another_process_closed_is_made_anew(groups: FakeGroups) -> None:
    """Naive: remember that the shard has one. After a takeover and back that is old news."""
    net = nets(groups)
    assert all(net.ensure(0) for _ in range(2))
    OrderGroup.objects.update(closed_at=timezone.now())
    assert net.ensure(0)
    assert (group := OrderGroup.of_shard(VENUE, 0)) and group.venue_group_id == "group-2"


def test_a_reset_can_be_asked_for_over_the_api(groups: FakeGroups) -> None:
    net = nets(groups)
    net.ensure(0)
    groups.tripped.add("group-1")
    net.look()
    caller = Caller.of("approver")
    assert code_of(caller.post("/trading/order-groups/reset", {"reason": ""})) == "E010"
    assert caller.post("/trading/order-groups/reset", {"reason": "fixed"}).json() == {"asked": 1}
    net.look()
    assert groups.tripped == set()


# --- our own throttle


def test_the_throttle_trips_at_the_set_number_and_a_person_lets_it_go_on(
    exchange: FakeExchange, held: locks.Held
) -> None:
    runaway = desk(exchange, None, orders_per_minute=3)
    for _ in range(5):
        approved()
    send_all(runaway, held)
    assert len(exchange.sent) == 3
    assert (state().mode, state().changed_by) == ("REDUCING", "execution")
    assert state().reason.startswith("E316 3 orders in a minute")
    assert sorted(Proposal.objects.values_list("state", flat=True)) == ["claimed"] * 3 + ["voided"] * 2
    risk.resume(venue=VENUE, actor="operator", reason="it was meant")
    approved()
    assert runaway.round(held) == 1


def test_without_the_throttle_a_runaway_strategy_sends_everything(
    exchange: FakeExchange, held: locks.Held
) -> None:
    for _ in range(5):
        approved()
    send_all(desk(exchange, None), held)
    assert len(exchange.sent) == 5


def test_the_throttle_keeps_no_exit(exchange: FakeExchange, held: locks.Held) -> None:
    approved()
    desk(exchange, None, orders_per_minute=1).round(held)
    market = factories.quoted_market()
    Position.objects.create(venue=VENUE, ticker=market.ticker, event_ticker="E", quantity=D(10), cost=D(4))
    close_position(venue=VENUE, ticker=market.ticker, actor="operator")
    assert desk(exchange, None, orders_per_minute=1).round(held) == 1
