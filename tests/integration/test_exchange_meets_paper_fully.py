"""The whole client against the paper exchange over its socket: every kind of write and read that a desk can ask for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.exchanges import PaperExchange, paper_exchange
from tests.integration.test_paper_account import owner_home
from trading.domain.orders import BookSide, OrderState, TimeInForce
from trading.exchange.account import Account, open_account
from trading.exchange.api_keys import ApiKeys, open_api_keys
from trading.exchange.auth import Signer, open_signer
from trading.exchange.drift import listening
from trading.exchange.errors import AccessDenied, UnknownThere
from trading.exchange.history import History, open_history
from trading.exchange.link import Link
from trading.exchange.market_data import MarketData, open_market_data
from trading.exchange.orders import (
    CancelTarget,
    OrderGroups,
    Orders,
    amend_body,
    create_body,
    open_order_groups,
    open_orders,
)
from trading.exchange.outcomes import (
    Accepted,
    AllCanceled,
    Amended,
    Canceled,
    Decreased,
    Done,
    GroupCreated,
    KeyCreated,
    NotOpen,
    Refused,
    SubaccountCreated,
    TransferTaken,
    Unknown,
)
from trading.exchange.reports import MarketDefinition
from trading.exchange.subaccounts import Subaccounts, open_subaccounts
from trading.exchange.tariff import Tariff
from trading.exchange.transfers import Transfers, open_transfers

D = Decimal
FIVE = D(5)


@dataclass(frozen=True)
class Desk:
    """Every client of one account, over one link."""

    link: Link
    public: MarketData
    account: Account
    history: History
    orders: Orders
    groups: OrderGroups
    cash: Subaccounts
    transfers: Transfers
    keys: ApiKeys
    market: MarketDefinition

    def rest(self, quantity: Decimal = FIVE, **more: Any) -> Accepted:
        """An order of ours that rests at the lowest price."""
        outcome = self.orders.send_create(self.body(quantity, **more), self.link.clock.now_ms())
        assert isinstance(outcome, Accepted), outcome
        return outcome

    def body(self, quantity: Decimal = FIVE, client_order_id: str = "", **more: Any) -> bytes:
        terms: dict[str, Any] = {
            "ticker": self.market.ticker,
            "client_order_id": client_order_id or f"kp-{uuid.uuid4()}",
            "book_side": BookSide.BID,
            "quantity": quantity,
            "yes_price": self.lowest,
            "time_in_force": TimeInForce.GTC,
            "exchange_index": self.market.exchange_index,
        }
        return create_body(**(terms | more))

    @property
    def lowest(self) -> Decimal:
        price = self.market.grid.ceil(D("0.0001"))
        assert price is not None
        return price

    @property
    def next_to_lowest(self) -> Decimal:
        price = self.market.grid.ceil(self.lowest + D("0.0001"))
        assert price is not None
        return price


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    home = owner_home(tmp_path_factory.mktemp("paper"))
    with paper_exchange(home, "--simulate", "--faults", "--tier", "prime", "--shards", "2") as started:
        yield started


@pytest.fixture(autouse=True)
def _speaks_as_agreed() -> Iterator[None]:
    with listening() as sentinel:
        yield
    assert [str(each.drift) for each in sentinel.take().sightings] == []


@pytest.fixture(scope="module")
def desk(paper: PaperExchange) -> Iterator[Desk]:
    signer, link, url = open_signer(*paper.key("desk-trade")), Link(), paper.rest_url
    with ExitStack() as opened:

        def client(made: Any) -> Any:
            opened.callback(made.close)
            return made

        public = client(open_market_data(url, link=link))
        quoted = [each for each in public.markets(status="open") if each.quote.mid is not None]
        yield Desk(
            link=link,
            public=public,
            account=client(open_account(url, signer, link=link)),
            history=client(open_history(url, signer, link=link)),
            orders=client(open_orders(url, signer, link=link)),
            groups=client(open_order_groups(url, signer, link=link)),
            cash=client(open_subaccounts(url, signer, link=link)),
            transfers=client(open_transfers(url, signer, link=link)),
            keys=client(open_api_keys(url, signer, link=link)),
            market=max(quoted, key=lambda each: each.close_at),
        )


def amended_to(desk: Desk, price: Decimal, quantity: Decimal, **more: Any) -> bytes:
    return amend_body(
        ticker=desk.market.ticker, book_side=BookSide.BID, yes_price=price, quantity=quantity, **more
    )


# --- order writes


def test_an_amend_gives_an_order_new_terms(desk: Desk) -> None:
    placed = desk.rest()
    renamed = f"kp-{uuid.uuid4()}"
    until = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    outcome = desk.orders.send_amend(
        placed.order_id,
        amended_to(
            desk,
            desk.next_to_lowest,
            D("7.5"),
            client_order_id=placed.client_order_id,
            updated_client_order_id=renamed,
            expires_at=until,
        ),
        desk.link.clock.now_ms(),
    )
    assert isinstance(outcome, Amended), outcome
    assert (outcome.client_order_id, outcome.remaining_quantity) == (renamed, D("7.5"))
    read = desk.account.order(placed.order_id)
    assert (read.price, read.remaining_quantity, read.client_order_id) == (
        desk.next_to_lowest,
        D("7.5"),
        renamed,
    )
    assert read.expires_at == until


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"client_order_id": "kp-another"}, Refused),
        ({"ticker": "NO-SUCH-MARKET"}, Refused),
        ({"book_side": BookSide.ASK}, Refused),
    ],
)
def test_an_amend_of_something_else_is_refused_and_changes_nothing(
    desk: Desk, change: dict[str, Any], kind: type
) -> None:
    placed = desk.rest()
    terms: dict[str, Any] = {
        "ticker": desk.market.ticker,
        "book_side": BookSide.BID,
        "yes_price": desk.next_to_lowest,
        "quantity": FIVE,
    }
    outcome = desk.orders.send_amend(
        placed.order_id, amend_body(**(terms | change)), desk.link.clock.now_ms()
    )
    assert isinstance(outcome, kind), outcome
    assert desk.account.order(placed.order_id).price == desk.lowest


def test_a_decrease_leaves_the_rest_and_to_nothing_ends_the_order(desk: Desk) -> None:
    placed, ticker = desk.rest(), desk.market.ticker
    outcome = desk.orders.decrease(placed.order_id, market_ticker=ticker, reduce_by=D("1.5"))
    assert isinstance(outcome, Decreased), outcome
    assert outcome.remaining_quantity == D("3.5")
    outcome = desk.orders.decrease(placed.order_id, market_ticker=ticker, reduce_to=D(1), exchange_index=0)
    assert isinstance(outcome, Decreased)
    assert desk.account.order(placed.order_id).remaining_quantity == D(1)
    desk.orders.cancel(placed.order_id, market_ticker=ticker)
    gone = desk.orders.decrease(placed.order_id, market_ticker=ticker, reduce_to=D("0.5"))
    assert isinstance(gone, NotOpen), gone
    gone = desk.orders.send_amend(  # type: ignore[assignment]
        placed.order_id, amended_to(desk, desk.lowest, FIVE), desk.link.clock.now_ms()
    )
    assert isinstance(gone, NotOpen), gone


def test_each_order_of_a_batch_lives_or_fails_by_itself(desk: Desk) -> None:
    taken = desk.rest().client_order_id
    ten_times_the_cash = (10 * desk.account.balance().cash / desk.lowest).quantize(D(1))
    batch = [
        desk.body(),
        desk.body(yes_price=D("0.12345").quantize(D("0.0001"))),  # 0.1234: off the grid
        desk.body(client_order_id=taken),
        desk.body(ten_times_the_cash),
    ]
    outcomes = desk.orders.send_batch(batch, desk.link.clock.now_ms())
    good, off_grid, spent, too_dear = outcomes
    assert isinstance(good, Accepted), outcomes
    assert isinstance(off_grid, Refused) and off_grid.exchange_code == "invalid_price"
    assert isinstance(spent, Unknown) and spent.exchange_code == "order_already_exists"
    assert isinstance(too_dear, Refused) and too_dear.exchange_code == "insufficient_balance", too_dear
    listed = {order.order_id for order in desk.account.orders(ticker=desk.market.ticker, status="resting")}
    assert good.order_id in listed


def test_each_cancel_of_a_batch_has_its_own_outcome(desk: Desk) -> None:
    one, two = desk.rest(), desk.rest()
    desk.orders.cancel(two.order_id, market_ticker=desk.market.ticker, exchange_index=0)
    targets = [
        CancelTarget(order_id, desk.market.ticker)
        for order_id in (two.order_id, one.order_id, str(uuid.uuid4()))
    ]
    again, canceled, stranger = desk.orders.cancel_batch(targets)
    assert isinstance(again, NotOpen), again
    assert isinstance(canceled, Canceled) and canceled.reduced_by == FIVE
    assert isinstance(stranger, NotOpen)


def test_cancel_all_of_one_subaccount_leaves_the_others(desk: Desk) -> None:
    mine = desk.rest()
    assert isinstance(desk.orders.cancel_all(subaccount=63), AllCanceled)
    assert desk.account.order(mine.order_id).state is OrderState.RESTING
    assert isinstance(desk.orders.cancel_all(), AllCanceled)
    assert desk.account.order(mine.order_id).state is OrderState.CANCELED


def test_queue_positions_are_read_for_one_and_for_all(desk: Desk) -> None:
    first, second = desk.rest(D(3)), desk.rest(D(2))
    listed = {each.order_id: each for each in desk.account.queue_positions(tickers=[desk.market.ticker])}
    ahead_of_first = listed[first.order_id].contracts_ahead
    assert listed[second.order_id].contracts_ahead >= ahead_of_first + 3
    assert desk.account.queue_position(first.order_id).contracts_ahead == ahead_of_first
    with pytest.raises(UnknownThere):
        desk.account.queue_position(str(uuid.uuid4()))


# --- order groups


def test_a_group_is_made_limited_triggered_reset_and_deleted(desk: Desk) -> None:
    made = desk.groups.create(contracts_in_15s=D(500))
    assert isinstance(made, GroupCreated), made
    group = made.order_group_id
    placed = desk.rest(order_group_id=group)
    read = desk.account.order_group(group)
    assert (read.limit, read.order_ids) == (D(500), (placed.order_id,))
    assert desk.groups.limit(group, contracts_in_15s=D(900)) == Done()
    assert {each.order_group_id: each.limit for each in desk.account.order_groups()}[group] == D(900)
    assert desk.groups.trigger(group) == Done()
    assert desk.account.order(placed.order_id).state is OrderState.CANCELED
    refused = desk.orders.send_create(desk.body(order_group_id=group), desk.link.clock.now_ms())
    assert isinstance(refused, Refused), refused
    assert desk.groups.reset(group) == Done()
    again = desk.rest(order_group_id=group)
    assert desk.groups.delete(group) == Done()
    assert desk.account.order(again.order_id).state is OrderState.CANCELED
    with pytest.raises(UnknownThere):
        desk.account.order_group(group)
    assert isinstance(desk.groups.trigger(group), Refused)


# --- cash


def test_cash_moves_to_a_subaccount_and_back_into_the_list(desk: Desk) -> None:
    made = desk.transfers.create_subaccount()
    assert isinstance(made, SubaccountCreated), made
    name = uuid.uuid4()
    move = {"amount": D("12.34"), "from_subaccount": 0, "to_subaccount": made.number, "transfer_id": name}
    assert desk.transfers.between_subaccounts(**move) == Done()  # type: ignore[arg-type]
    again = desk.transfers.between_subaccounts(**move)  # type: ignore[arg-type]
    assert isinstance(again, Unknown) and again.status == 409, again
    held = {(each.subaccount, each.exchange_index): each.cash for each in desk.cash.balances()}
    assert held[made.number, 0] == D("12.34")
    assert desk.account.balance(subaccount=made.number).cash == D("12.34")
    moved = [each for each in desk.cash.transfers() if each.to_subaccount == made.number]
    assert [(each.amount, each.from_subaccount) for each in moved] == [(D("12.34"), 0)]


def test_netting_is_switched_by_subaccount(desk: Desk) -> None:
    for enabled in (True, False):
        assert desk.transfers.set_netting(subaccount=0, enabled=enabled) == Done()
        assert {each.enabled for each in desk.cash.netting() if each.subaccount == 0} == {enabled}


def test_cash_arrives_at_another_shard_and_stays_the_same_in_all(desk: Desk) -> None:
    before = desk.account.balance()
    outcome = desk.transfers.between_shards(
        amount=D("1.2345"), source_shard=0, destination_shard=1, transfer_id=uuid.uuid4()
    )
    assert isinstance(outcome, TransferTaken), outcome
    read = desk.cash.shard_transfer(outcome.transfer_id)
    assert (read.amount, read.source_shard, read.destination_shard) == (D("1.2345"), 0, 1)
    assert outcome.transfer_id in {each.transfer_id for each in desk.cash.shard_transfers()}
    deadline = time.monotonic() + 10
    while not desk.cash.shard_transfer(outcome.transfer_id).is_complete:  # on its way it is nowhere
        assert time.monotonic() < deadline
        time.sleep(0.05)
    after = desk.account.balance()
    assert sum(dict(after.cash_by_shard).values()) == sum(dict(before.cash_by_shard).values())


def test_the_target_allocation_is_set_and_cleared(desk: Desk) -> None:
    assert desk.transfers.set_target_allocation({0: 75, 1: 25}, reservation="max") == Done()
    told = desk.cash.target_allocation()
    assert (told.shares, told.reservation) == (((0, 75), (1, 25)), "max")
    assert desk.transfers.set_target_allocation({}) == Done()
    assert desk.cash.target_allocation().shares == ()


# --- keys, tariff, records


def test_a_key_of_our_own_making_reads_and_ends(desk: Desk, paper: PaperExchange) -> None:
    pair = Ed25519PrivateKey.generate()
    pem = pair.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    made = desk.keys.create(name="night shift", public_key=pem.decode(), scopes=["read"])
    assert isinstance(made, KeyCreated), made
    with ExitStack() as opened:
        own = open_account(paper.rest_url, Signer(made.key_id, pair))
        opened.callback(own.close)
        assert own.balance().cash > 0
        [listed] = [each for each in own.api_keys() if each.key_id == made.key_id]
        assert (listed.name, listed.scopes) == ("night shift", {"read"})
        assert desk.keys.delete(made.key_id) == Done()
        with pytest.raises(AccessDenied):
            own.balance()


def test_a_generated_key_shows_its_private_half_once_and_in_no_log(desk: Desk) -> None:
    made = desk.keys.generate(name="generated", key_type="ed25519", scopes=["read"])
    assert isinstance(made, KeyCreated), made
    assert "PRIVATE KEY" in made.private_key
    assert "PRIVATE" not in repr(made)
    assert desk.keys.delete(made.key_id) == Done()


def test_limits_and_costs_make_the_tariff(desk: Desk) -> None:
    told = Tariff.told(desk.account.limits(), desk.account.endpoint_costs())
    assert told.tier == "prime"
    assert told.charge("DELETE", "/portfolio/events/orders/o-1", exchange_index=0).cost == 2
    assert told.charge("GET", "/portfolio/orders/o-1").cost == 2
    assert told.charge("POST", "/portfolio/events/orders", exchange_index=0).cost == 10


SPAN = {"since": datetime.now(UTC) - timedelta(hours=1), "until": datetime.now(UTC)}
READS: dict[str, Callable[[Desk], Any]] = {
    "series": lambda desk: desk.public.series_list(),
    "series fee changes": lambda desk: desk.public.series_fee_changes(with_past=True),
    "event fee changes": lambda desk: desk.public.event_fee_changes(),
    "events": lambda desk: desk.public.events(with_markets=True),
    "combos": lambda desk: desk.public.combo_events(with_markets=True),
    "event metadata": lambda desk: desk.public.event_metadata(desk.market.event_ticker),
    "exchange": lambda desk: (desk.public.exchange_state(), desk.public.trading_hours()),
    "freshness": lambda desk: desk.public.user_data_as_of(),
    "books": lambda desk: desk.public.order_books([desk.market.ticker]),
    "trades": lambda desk: desk.public.trades(ticker=desk.market.ticker, is_block_trade=False),
    "candles of several": lambda desk: desk.public.candles_of(
        [desk.market.ticker], minutes=1, with_latest_before=True, **SPAN
    ),
    "cutoff": lambda desk: desk.history.cutoff(),
    "old markets": lambda desk: desk.history.markets(without_combos=True),
    "old trades": lambda desk: desk.history.trades(),
    "old fills": lambda desk: desk.history.fills(),
    "old orders": lambda desk: desk.history.orders(),
    "old positions": lambda desk: desk.history.positions(),
    "positions": lambda desk: desk.account.positions(settlement="all", counted=["total_traded"]),
    "positions by event": lambda desk: desk.account.event_positions(),
    "settlements": lambda desk: desk.account.settlements(until=datetime.now(UTC)),
    "fills": lambda desk: desk.account.fills(tickers=[desk.market.ticker], exchange_index=0),
    "deposits": lambda desk: desk.account.deposits(),
    "withdrawals": lambda desk: desk.account.withdrawals(),
}


@pytest.mark.parametrize("name", READS)
def test_every_read_of_a_desk_is_answered_and_understood(desk: Desk, name: str) -> None:
    assert READS[name](desk) is not None


def test_candles_of_a_market_come_alike_alone_in_a_batch_and_by_event(desk: Desk) -> None:
    event = desk.public.event(desk.market.event_ticker)
    until = datetime.now(UTC).replace(second=0, microsecond=0)
    span: dict[str, Any] = {"since": until - timedelta(minutes=30), "until": until}
    alone = desk.public.candles(event.series_ticker, desk.market.ticker, **span)
    batch = desk.public.candles_of([desk.market.ticker], **span)
    by_event = desk.public.event_candles(event.series_ticker, event.ticker, **span)
    assert batch.get(desk.market.ticker, []) == alone == by_event[desk.market.ticker]
