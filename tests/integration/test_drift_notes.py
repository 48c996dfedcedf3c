"""What the sentinel heard becomes rows, reduces trading when money depends on it, and waits for a person."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import Client

from kalshi_site.models import AuditEntry
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.models import TradingState
from tests.callers import Caller, code_of
from tests.factories import member, stranger
from trading.exchange.conformity import DriftKind
from trading.exchange.drift import Sentinel
from trading.exchange.findings import Drift
from trading.market_data import drift, scribe
from trading.market_data.scribe import Scribe
from trading.models import DriftNote, Listener

pytestmark = pytest.mark.django_db

PRICE = Drift(DriftKind.MISSING_FIELD, "GET /markets", "markets[].yes_bid_dollars", sample="", is_money=True)
EXTRA = Drift(DriftKind.UNKNOWN_FIELD, "GET /markets", "markets[].mascot", "text", "fox")
NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


class At:
    """A sentinel's clock that stands still until it is told."""

    def __init__(self, moment: datetime = NOON) -> None:
        self.moment = moment

    def __call__(self) -> int:
        return int(self.moment.timestamp() * 1000)


def hear(*drifts: Drift, at: datetime = NOON, process: str = "feed") -> list[DriftNote]:
    """Let one process hear these and write them down."""
    sentinel = Sentinel(clock_ms=At(at))
    for each in drifts:
        sentinel.note(each)
    return drift.write_down(venue="paper", process=process, heard=sentinel.take())


def mode() -> str:
    return str(risk.trading_state("paper").mode)


def test_the_same_drift_of_two_processes_is_one_row_counted_twice() -> None:
    hear(EXTRA, at=NOON)
    hear(EXTRA, EXTRA, at=NOON + timedelta(minutes=1), process="update")
    [note] = DriftNote.objects.all()
    assert (note.count, note.first_at, note.last_at) == (3, NOON, NOON + timedelta(minutes=1))
    assert (note.first_process, note.sample, note.is_money) == ("feed", "fox", False)
    assert AuditEntry.objects.filter(verb="drift.note").count() == 1


def test_a_drift_without_money_leaves_trading_alone() -> None:
    hear(EXTRA)
    assert mode() == "ACTIVE"
    assert drift.objection("paper") == ""


def test_a_drift_with_money_puts_trading_into_reducing_with_its_reason() -> None:
    hear(PRICE)
    state = risk.trading_state("paper")
    assert (state.mode, state.changed_by) == ("REDUCING", "drift sentinel")
    assert state.reason == "E606 GET /markets: missing field markets[].yes_bid_dollars"
    [entry] = AuditEntry.objects.filter(verb="trading.pause")
    assert entry.actor_kind == "system"


@pytest.mark.parametrize("before", ["REDUCING", "HALTED"])
def test_what_people_have_paused_or_stopped_stays_theirs(before: str) -> None:
    act = risk.pause if before == "REDUCING" else risk.halt
    act(venue="paper", actor="approver1", reason="lunch")
    hear(PRICE)
    state = risk.trading_state("paper")
    assert (state.mode, state.changed_by) == (before, "approver1")


def test_it_needs_neither_redis_nor_celery(settings: Any) -> None:
    settings.REDIS_URL = settings.REDIS_CACHE_URL = "unix:///nowhere/redis.sock"
    hear(PRICE)
    assert mode() == "REDUCING"


def test_resuming_is_refused_until_the_drift_is_acknowledged() -> None:
    [note] = hear(PRICE)
    with pytest.raises(risk.ResumeRefused) as refused:
        risk.resume(venue="paper", actor="risk1", reason="looks fine")
    assert refused.value.code == "E308"
    assert "markets[].yes_bid_dollars" in str(refused.value)
    drift.acknowledge(note=note, actor="risk1", reason="the exchange put it back", version=note.version)
    risk.resume(venue="paper", actor="risk1", reason="acknowledged")
    assert mode() == "ACTIVE"
    [entry] = AuditEntry.objects.filter(verb="drift.acknowledge")
    assert (entry.actor, entry.reason, entry.detail["money"]) == ("risk1", "the exchange put it back", True)


def test_an_acknowledged_drift_that_goes_on_does_not_reduce_again() -> None:
    [note] = hear(PRICE)
    drift.acknowledge(note=note, actor="risk1", reason="known")
    risk.resume(venue="paper", actor="risk1", reason="known")
    assert hear(PRICE, at=NOON + timedelta(hours=23)) == []
    assert hear(PRICE, at=NOON + timedelta(hours=46)) == []
    assert mode() == "ACTIVE"


def test_one_that_comes_back_after_a_day_of_silence_is_news_again() -> None:
    [note] = hear(PRICE)
    drift.acknowledge(note=note, actor="risk1", reason="known")
    risk.resume(venue="paper", actor="risk1", reason="known")
    assert [each.pk for each in hear(PRICE, at=NOON + timedelta(hours=25))] == [note.pk]
    assert mode() == "REDUCING"
    assert DriftNote.objects.get().acknowledged_at is None


def test_another_word_in_the_same_field_is_another_drift() -> None:
    first = Drift(DriftKind.UNKNOWN_WORD, "GET /series", "series[].fee_type", "cubic", "cubic", is_money=True)
    [note] = hear(first)
    drift.acknowledge(note=note, actor="risk1", reason="not traded here")
    second = Drift(
        DriftKind.UNKNOWN_WORD, "GET /series", "series[].fee_type", "magic", "magic", is_money=True
    )
    assert len(hear(first, second)) == 1
    assert "magic" in drift.objection("paper")


def test_an_acknowledgement_says_why_and_is_of_what_was_seen() -> None:
    [note] = hear(PRICE)
    with pytest.raises(ValueError, match="says why"):
        drift.acknowledge(note=note, actor="risk1", reason=" ")
    with pytest.raises(StaleVersion):
        drift.acknowledge(note=note, actor="risk1", reason="ok", version=note.version + 1)
    once = drift.acknowledge(note=note, actor="risk1", reason="ok")
    assert drift.acknowledge(note=once, actor="other", reason="again").acknowledged_by == "risk1"


def test_the_longest_names_fit() -> None:
    long = Drift(DriftKind.UNEXPECTED_STATUS, "w" * 500, "f" * 500, "x" * 500, "s" * 500, is_money=True)
    [note] = hear(long)
    hear(long)
    note.refresh_from_db()
    assert note.count == 2


def test_a_flood_of_new_names_or_words_fills_no_table_and_still_alarms() -> None:
    for number in range(drift.MOST_ALIKE + 5):
        word = f"word {number}"
        hear(Drift(DriftKind.UNKNOWN_WORD, "GET /markets", "markets[].status", word, is_money=True))
    assert DriftNote.objects.count() == drift.MOST_ALIKE + 1
    shared = DriftNote.objects.get(found="further ones")
    assert (shared.count, shared.is_money, shared.acknowledged_at) == (5, True, None)


# --- the scribe


def test_the_scribe_writes_what_is_new_and_counts_now_and_then() -> None:
    sentinel = Sentinel()
    writer = Scribe(venue="paper", process="feed", source=sentinel)
    sentinel.answer("GET", "/markets", 200, b'{"markets": [], "cursor": ""}')
    writer.write()
    sentinel.answer("GET", "/markets", 200, b'{"markets": [], "cursor": ""}')
    writer.write()  # nothing new within ten seconds: kept for later
    assert Listener.objects.get().answers == 1
    sentinel.note(EXTRA)
    writer.write()
    assert Listener.objects.get().answers == 2
    assert DriftNote.objects.count() == 1


def test_a_database_out_of_reach_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinel = Sentinel()
    writer = Scribe(venue="paper", process="feed", source=sentinel)
    sentinel.note(PRICE)

    def away(**_: Any) -> None:
        raise OperationalError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(scribe, "write_down", away)
        writer.write()
    assert mode() == "ACTIVE"
    writer.write()
    assert mode() == "REDUCING"


@pytest.mark.django_db(transaction=True)
def test_it_works_in_a_thread_of_its_own() -> None:
    sentinel, stop = Sentinel(), threading.Event()
    sentinel.note(PRICE)
    writer = Scribe(venue="paper", process="feed", source=sentinel, stop=stop, every=0.01)
    thread = writer.start()
    for _ in range(500):
        if DriftNote.objects.exists():
            break
        stop.wait(0.01)
    stop.set()
    thread.join(10)
    assert mode() == "REDUCING"


# --- doors


def test_the_api_lists_acknowledges_and_refuses_to_resume_before() -> None:
    hear(PRICE, EXTRA)
    caller = Caller.of("risk")
    listed = caller.get("/exchange/drifts?is_money=true&status=standing").json()["data"]
    assert [each["field"] for each in listed] == ["markets[].yes_bid_dollars"]
    seen = caller.get("/trading/state")["ETag"]
    assert code_of(caller.post("/trading/resume", {"reason": "go"}, If_Match=seen)) == "E308"
    path = f"/exchange/drifts/{listed[0]['id']}/acknowledge"
    assert code_of(caller.post(path, {"reason": ""}, If_Match='"v1"')) == "E010"
    assert code_of(caller.post(path, {"reason": "seen"}, If_Match='"v9"')) == "E204"
    done = caller.post(path, {"reason": "seen"}, If_Match='"v1"')
    assert (done.status_code, done.json()["acknowledged_by"]) == (200, "risk1")
    seen = caller.get("/trading/state")["ETag"]
    assert caller.post("/trading/resume", {"reason": "go"}, If_Match=seen).json()["mode"] == "ACTIVE"
    assert caller.get("/exchange/drifts?status=acknowledged").json()["data"][0]["id"] == listed[0]["id"]


def test_the_page_and_the_terminal_refuse_to_resume_with_the_same_code() -> None:
    hear(PRICE)
    client = Client()
    client.force_login(member("risk1", "risk"))
    version = TradingState.objects.get(venue="paper").version
    refused = client.post("/trading/resume", {"reason": "go", "version": version})
    assert refused.status_code == 409
    assert "E308" in refused.content.decode()
    with pytest.raises(CommandError, match="E308"):
        call_command("trade", "resume", reason="go", stdout=StringIO())
    assert mode() == "REDUCING"


def test_a_stranger_may_not_acknowledge() -> None:
    [note] = hear(PRICE)
    caller = Caller(stranger(), "risk")
    assert (
        code_of(caller.post(f"/exchange/drifts/{note.pk}/acknowledge", {"reason": "x"}, If_Match='"v1"'))
        == "E104"
    )


def test_the_terminal_lists_acknowledges_and_then_resumes() -> None:
    [note, extra] = hear(PRICE, EXTRA)
    out = StringIO()
    call_command("drift", "list", stdout=out)
    assert [line.split()[:2] for line in out.getvalue().splitlines()] == [
        [str(note.pk), "MONEY"],
        [str(extra.pk), "GET"],
    ]
    for given in ([], [999_999], [note.pk]):
        with pytest.raises(CommandError):
            call_command("drift", "acknowledge", *given, stdout=StringIO())
    call_command("drift", "acknowledge", note.pk, reason="over since noon", stdout=StringIO())
    call_command("trade", "resume", reason="acknowledged", stdout=StringIO())
    assert mode() == "ACTIVE"
    out = StringIO()
    call_command("drift", "list", "--json", stdout=out)
    assert [each["id"] for each in json.loads(out.getvalue())] == [extra.pk]
