"""A database that comes back from a backup counts on under numbers that clients already know: it must begin anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.core.management import CommandError, call_command

from approvals import decisions
from approvals.models import Proposal
from kalshi_site import live
from kalshi_site.live import changes, witness
from kalshi_site.live.catchup import Delta, Snapshot
from kalshi_site.live.relay import Relay
from kalshi_site.live.replica import Replica
from kalshi_site.models import AuditEntry, ChangeLog, TopicHead
from portfolio import risk
from portfolio.models import Reservation
from tests import factories
from tests.fakes import FakeExchange
from tests.integration.test_live_channel import follow, signed_in
from trading.engine.update_cycle import update_cycle
from trading.exchange.errors import NoAnswer
from trading.execution import restored
from trading.execution.reconcile import Reconciler

VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture(autouse=True)
def var(tmp_path: Path, settings: Any) -> Path:
    settings.VAR_DIR = tmp_path
    return tmp_path


def change(count: int, topic: str = "orders") -> None:
    for n in range(count):
        live.changed(topic, key=f"ord_{n}", version=1)


def restore(upto: int, topic: str = "orders") -> None:
    """What a backup taken at that number would hold."""
    ChangeLog.objects.filter(topic=topic, version__gt=upto).delete()
    TopicHead.objects.filter(topic=topic).update(version=upto)


def epoch() -> str:
    return TopicHead.objects.get(topic="orders").epoch


def _nothing() -> None:
    """The log goes on as it stood."""


def _more() -> None:
    change(3)


def _cut() -> None:
    TopicHead.objects.update(kept_after=5)
    ChangeLog.objects.all().delete()


def _begin_anew() -> None:
    changes.begin_anew(actor="operator", reason="repair")
    restore(2)


@pytest.mark.parametrize("after", [_nothing, _more, _cut, _begin_anew])
def test_a_log_that_only_went_on_is_no_restore(after: Callable[[], None]) -> None:
    change(5)
    witness.note()
    after()
    assert witness.went_back() == []


def test_without_a_note_nothing_is_concluded(var: Path) -> None:
    change(5)
    assert witness.went_back() == []
    (var / "run").mkdir()
    for odd in ("", "[]", "{", '{"orders": {"version": 3}}'):
        (var / "run" / witness.FILE).write_text(odd, encoding="utf-8")
        assert witness.went_back() == []


def test_a_log_that_stands_before_the_note_went_back() -> None:
    change(5)
    witness.note()
    restore(3)
    assert witness.went_back() == ["orders"]


def test_a_log_that_has_overtaken_the_note_is_found_by_the_change_that_was_noted() -> None:
    """Naive: comparing numbers alone finds nothing here, and clients would keep two changes that never were."""
    change(5)
    witness.note()
    restore(3)
    change(4)
    assert TopicHead.objects.get().version > 5
    assert witness.went_back() == ["orders"]


def test_a_client_of_a_restored_desk_is_equal_again_only_in_a_new_epoch() -> None:
    """Negative control first: under the old epoch the client takes nothing that it is told, for ever."""
    change(5)
    witness.note()
    client = Replica("orders")
    client.take(changes.since("orders", -1, ""), now=0.0)
    restore(2)
    told = changes.since("orders", client.version, client.epoch)
    assert isinstance(told, Snapshot)
    client.take(told, now=1.0)
    assert client.version == 5, "it believes in three changes that are gone"
    assert restored.look(VENUE) is True
    assert client.beat(*_head(), now=2.0) is not None
    client.take(changes.since("orders", -1, ""), now=2.0)
    assert (client.epoch, client.version) == _head()
    assert {key: each.version for key, each in client.state.items()} == {"ord_0": 1, "ord_1": 1}


# --- nobody has a page open


def compare() -> None:
    """One round of the update loop."""
    exchange = FakeExchange()
    judge = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    assert update_cycle(reconciler=judge, interval=timedelta(milliseconds=1)) is not None


@pytest.mark.parametrize("finder", [lambda: restored.look(VENUE), compare])
def test_a_restore_is_found_though_no_page_was_open(finder: Callable[[], object]) -> None:
    change(5)
    compare()
    before = epoch()
    restore(3)
    finder()
    assert epoch() != before
    assert risk.trading_state(VENUE).mode == "REDUCING"


def test_without_a_look_the_next_note_hides_the_restore() -> None:
    """Naive: note at the end of each round where the log stands, and nothing more."""
    change(5)
    witness.note()
    restore(3)
    witness.note()
    assert restored.look(VENUE) is False


def test_a_round_that_the_exchange_fails_notes_all_the_same() -> None:
    change(5)
    exchange = FakeExchange()
    exchange.balance = _out_of_reach  # type: ignore[method-assign]
    with pytest.raises(NoAnswer):
        update_cycle(reconciler=Reconciler(VENUE, exchange, exchange))  # type: ignore[arg-type]
    restore(3)
    assert witness.went_back() == ["orders"]


def test_round_after_round_a_log_that_goes_on_is_no_restore() -> None:
    before = None
    for _ in range(3):
        change(2)
        compare()
        assert before in (None, epoch())
        before = epoch()
    assert risk.trading_state(VENUE).mode == "ACTIVE"


def _out_of_reach() -> Any:
    raise NoAnswer("silence")


def _head() -> tuple[str, int]:
    row = TopicHead.objects.get(topic="orders")
    return row.epoch, row.version


def test_what_a_backup_calls_approved_is_voided_and_only_exits_pass() -> None:
    factories.funded()
    proposal = factories.ProposalFactory()
    approved = decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )
    witness.note()
    restore(0, "proposals")
    assert restored.look(VENUE) is True
    row = Proposal.objects.get(pk=approved.pk)
    assert (row.state, Reservation.objects.standing(VENUE).count()) == ("voided", 0)
    assert risk.trading_state(VENUE).mode == "REDUCING"
    assert AuditEntry.objects.filter(verb="state.epoch", actor_kind="system").count() == 1
    assert restored.look(VENUE) is False, "once is enough"


def test_a_stop_stays_a_stop() -> None:
    risk.halt(venue=VENUE, actor="operator", reason="first of all")
    restored.begin_anew(venue=VENUE, actor="operator", reason="restored")
    assert risk.trading_state(VENUE).mode == "HALTED"


def test_the_command_needs_a_reason_and_leaves_a_record() -> None:
    change(1)
    before = epoch()
    with pytest.raises(CommandError, match="E010") as refused:
        call_command("state", "begin-anew")
    assert (refused.value.returncode, epoch()) == (3, before)
    told = StringIO()
    call_command("state", "begin-anew", "--reason", "restored the copy of 12:00", "--json", stdout=told)
    assert json.loads(told.getvalue())["topics"]["orders"] == {"epoch": epoch(), "version": 1}
    assert epoch() != before
    entry = AuditEntry.objects.get(verb="state.epoch")
    assert (entry.reason, entry.actor_kind) == ("restored the copy of 12:00", "person")


def test_the_command_says_that_the_database_went_back() -> None:
    change(5)
    witness.note()
    restore(1)
    told = StringIO()
    call_command("state", "status", stdout=told)
    assert "went back in time (orders)" in told.getvalue()


async def test_the_channel_begins_anew_when_its_log_stands_before_itself() -> None:
    await database_sync_to_async(change)(5)
    before = await database_sync_to_async(epoch)()
    socket = await signed_in()
    await follow(socket, "orders")
    await database_sync_to_async(restore)(2)
    while (frame := await socket.receive_json_from())["t"] != "orders":
        pass
    assert (frame["k"], frame["s"]) == ("snap", 2)
    assert frame["d"]["e"] == await database_sync_to_async(epoch)() != before
    await socket.disconnect()


async def test_the_channel_notes_where_the_log_stands(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalshi_site.live.relay.NOTE_EVERY", 0.0)
    relay = Relay(("orders",))
    await database_sync_to_async(change)(2)
    await relay._look()
    noted = json.loads((var / "run" / witness.FILE).read_text(encoding="utf-8"))
    assert noted["orders"]["version"] == 2


async def test_a_first_socket_after_a_restore_finds_it() -> None:
    await database_sync_to_async(change)(5)
    await database_sync_to_async(witness.note)()
    await database_sync_to_async(restore)(3)
    before = await database_sync_to_async(epoch)()
    socket = await signed_in()
    await follow(socket, "orders")
    assert await database_sync_to_async(epoch)() != before
    await socket.disconnect()


def test_a_delta_of_the_new_epoch_goes_on_from_the_restored_number() -> None:
    change(3)
    restored.begin_anew(venue=VENUE, actor="operator", reason="restored")
    change(1)
    told = changes.since("orders", 3, epoch())
    assert isinstance(told, Delta)
    assert [each.number for each in told.changes] == [4]
