"""The reconciliation page, its alarm on every page, and the same over REST and the live channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from kalshi_site.models import AuditEntry
from portfolio import ledger, risk
from tests import factories
from tests.callers import Caller, code_of
from tests.factories import member
from trading.execution import work_items
from trading.execution.work_items import Difference
from trading.models import Cycle, WorkItem, WorkKind

# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

VENUE = factories.VENUE
CASH = Difference(WorkKind.CASH_DRIFT, "cash", theirs="10500", ours="10000")

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


def told(found: Difference = CASH) -> WorkItem:
    factories.funded()
    return work_items.report(VENUE, found)


def as_member(role: str = "risk") -> Client:
    client = Client()
    client.force_login(member(f"{role}1", role))
    return client


def page(client: Client, path: str = "/reconciliation") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def say(client: Client, item: WorkItem, act: str, **given: Any) -> Any:
    fields = {"reason": "our deposit", "version": item.version, **given}
    return client.post(f"/reconciliation/{item.public_id}/{act}", fields, follow=True)


def is_hidden(text: str, name: str) -> bool:
    return "hidden" in text.split(f'id="{name}"')[1].split(">", maxsplit=1)[0]


# --- the page


def test_a_refused_answer_keeps_what_was_typed_at_its_own_item() -> None:
    item, client = told(), as_member()
    other = work_items.report(VENUE, Difference(WorkKind.ODD_RECORD, "x"))
    text = say(client, item, "resolve", version=9, reason="our own deposit").content.decode()
    typed = {
        each.public_id: text.split(f'id="{each.public_id}-reason"')[1].split(">", maxsplit=1)[0]
        for each in (item, other)
    }
    assert 'value="our own deposit"' in typed[item.public_id]
    assert 'value=""' in typed[other.public_id]


def test_nothing_compared_is_not_the_same_as_nothing_differs() -> None:
    client = as_member()
    assert "Nothing was compared yet" in page(client)
    areas = {"orders": {"compared": 1234, "changed": 2, "differ": 0}}
    _compared(areas, "clean")
    text = page(client)
    assert "Nothing differs." in text
    assert "1,234" in text
    assert "both sides agree" in text


def _compared(areas: dict[str, Any], outcome: str) -> None:
    now = timezone.now()
    detail = {"venue": VENUE, "areas": areas}
    Cycle.objects.create(
        loop="update", slot=1, started_at=now, finished_at=now, outcome=outcome, detail=detail
    )


def test_a_difference_stands_there_with_both_numbers_and_what_to_do() -> None:
    item = told()
    text = page(as_member())
    for words in ("Cash differs", "10500", "10000", "A deposit, a withdrawal", "manage.py reconcile --rows"):
        assert words in text
    assert item.public_id in text


def test_what_the_exchange_says_is_text() -> None:
    told(Difference(WorkKind.ODD_RECORD, "<script>alert(1)</script>", detail="<b>bold</b>"))
    text = page(as_member())
    assert "<script>alert" not in text
    assert "<b>bold" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("path", ["/", "/orders", "/health", "/trading/resume"])
def test_the_alarm_stands_on_every_page_until_somebody_has_answered(path: str) -> None:
    client = as_member()
    assert is_hidden(page(client, path), "work-alarm")
    item = told()
    assert not is_hidden(page(client, path), "work-alarm")
    assert is_hidden(page(client), "work-alarm"), "the page itself says more"
    say(client, item, "acknowledge")
    assert is_hidden(page(client, path), "work-alarm")


def test_the_alarm_refreshes_by_itself() -> None:
    told()
    assert "1 difference waits" in page(as_member(), "/frame/work")


def test_a_person_acknowledges_and_then_resumes() -> None:
    item, client = told(), as_member()
    state = risk.trading_state(VENUE)
    refused = client.post("/trading/resume", {"reason": "x", "version": state.version})
    assert refused.status_code == 409
    assert item.public_id in refused.content.decode()
    text = say(client, item, "acknowledge").content.decode()
    assert "Acknowledged. Trading stays as it is until somebody resumes it." in text
    assert "“our deposit”" in text
    client.post("/trading/resume", {"reason": "go", "version": state.version})
    assert risk.trading_state(VENUE).mode == "ACTIVE"


def test_a_person_books_the_exchanges_number() -> None:
    item = told()
    text = say(as_member(), item, "accept").content.decode()
    assert "The exchange&#x27;s number is booked." in text
    assert ledger.cash(VENUE) == 10_500
    assert WorkItem.objects.get().state == "resolved"


@pytest.mark.parametrize(
    ("given", "status"),
    [({"reason": " "}, 422), ({"version": "x"}, 422), ({"version": 1}, 412), ({"act": "accept"}, 409)],
)
def test_an_answer_that_is_none_changes_nothing(given: dict[str, Any], status: int) -> None:
    item = told(Difference(WorkKind.ORPHAN_ORDER, "venue-1"))
    assert say(as_member(), item, given.pop("act", "resolve"), **given).status_code == status
    assert WorkItem.objects.get().state == "open"


def test_who_may_not_answer_cannot() -> None:
    item = told()
    assert "disabled" in page(as_member("viewer")).split(f'id="{item.public_id}-reason"')[1].split(">")[0]
    assert say(as_member("viewer"), item, "acknowledge").status_code == 403
    assert say(as_member("approver"), item, "accept").status_code == 403
    assert say(as_member("approver"), item, "acknowledge").status_code == 200
    assert Client().post(f"/reconciliation/{item.public_id}/resolve").status_code == 302
    assert as_member().post(f"/reconciliation/{item.public_id}/burn").status_code == 404


def test_the_parts_that_refresh_are_fragments() -> None:
    client = as_member()
    assert page(client, "/reconciliation?part=items").lstrip().startswith('<div id="reconciliation"')
    assert page(client, "/reconciliation?part=last").lstrip().startswith('<section class="panel" id="last')
    assert "<html" in page(client, "/reconciliation?part=elsewhere")


def test_machines_are_told_not_fit_to_trade_and_no_names() -> None:
    told()
    answer = Client().get("/tradez")
    assert answer.json()["checks"]["books"] == "E613 1 difference waits for somebody to look"


def test_an_order_that_nobody_here_approved_says_so() -> None:
    order = factories.OrderFactory(proposal=None, origin="external", **_terms())
    client = as_member()
    assert "Placed elsewhere." in page(client, f"/orders/{order.public_id}")
    assert "placed elsewhere" in page(client, "/orders")


def _terms() -> dict[str, Any]:
    return {
        "ticker": "SIMTEST-1",
        "event_ticker": "SIMTEST",
        "title": "",
        "action": "buy",
        "side": "yes",
        "quantity": 10,
        "limit_price": "0.5",
        "remaining_quantity": 10,
    }


# --- REST


def test_the_list_shows_what_stands_and_filters() -> None:
    item = told()
    told(Difference(WorkKind.ODD_RECORD, "order x"))
    caller = Caller.of("viewer")
    body = caller.get("/reconciliation?status=standing").json()
    assert [each["kind"] for each in body["data"]] == ["odd_record", "cash_drift"]
    assert [each["id"] for each in caller.get("/reconciliation?kind=cash_drift").json()["data"]] == [
        item.public_id
    ]
    assert caller.get("/reconciliation?status=resolved").json()["data"] == []
    assert code_of(caller.get("/reconciliation?status=noticed")) == "E012"


def test_what_one_look_saw_is_shown_to_nobody() -> None:
    work_items.take_in(VENUE, [CASH], reads_as_of=None)
    assert Caller.of("viewer").get("/reconciliation").json()["data"] == []
    assert code_of(Caller.of("viewer").get(f"/reconciliation/{WorkItem.objects.get().public_id}")) == "E021"
    assert "Cash differs" not in page(as_member())


def test_acknowledging_needs_the_version_that_was_seen() -> None:
    item, caller = told(), Caller.of("risk", "risk")
    path = f"/reconciliation/{item.public_id}/acknowledge"
    assert code_of(caller.post(path, {"reason": "x"})) == "E203"
    assert code_of(caller.post(path, {"reason": "x"}, If_Match='"v1"')) == "E204"
    assert code_of(caller.post(path, {}, If_Match=f'"v{item.version}"')) == "E010"
    done = caller.post(path, {"reason": "seen"}, If_Match=f'"v{item.version}"')
    assert (done.status_code, done.json()["status"]) == (200, "acknowledged")
    assert done["ETag"] == f'"v{item.version + 1}"'


def test_resolving_with_the_exchanges_number_needs_more_than_trading() -> None:
    item = told()
    path, seen = f"/reconciliation/{item.public_id}/resolve", f'"v{item.version}"'
    body = {"reason": "our deposit", "accept": True}
    assert code_of(Caller.of("approver", "trade").post(path, body, If_Match=seen)) == "E104"
    done = Caller.of("risk", "risk").post(path, body, If_Match=seen)
    assert (done.status_code, done.json()["status"]) == (200, "resolved")
    assert ledger.cash(VENUE) == 10_500
    assert AuditEntry.objects.get(verb="work.resolve").actor == "risk1"


def test_what_is_no_number_is_not_taken_over() -> None:
    item = told(Difference(WorkKind.ORPHAN_ORDER, "venue-1"))
    answer = Caller.of("risk", "risk").post(
        f"/reconciliation/{item.public_id}/resolve",
        {"reason": "x", "accept": True},
        If_Match=f'"v{item.version}"',
    )
    assert (answer.status_code, code_of(answer)) == (409, "E212")
    assert WorkItem.objects.get().state == "open"


def test_the_last_comparison_is_told_by_area() -> None:
    caller = Caller.of("viewer")
    assert code_of(caller.get("/reconciliation/last")) == "E021"
    areas = {"cash": {"compared": 1, "changed": 0, "differ": 1}}
    now = timezone.now()
    Cycle.objects.create(
        loop="reconcile",
        slot=1,
        started_at=now,
        finished_at=now,
        outcome="drift",
        detail={"venue": VENUE, "areas": areas},
    )
    assert caller.get("/reconciliation/last").json()["areas"] == areas


def test_a_client_that_follows_the_topic_gets_the_items() -> None:
    item = told()
    body = Caller.of("viewer").get("/state?topic=reconciliation&expand=object").json()
    assert [each["id"] for each in body["snapshot"]] == [item.public_id]
    assert body["snapshot"][0]["object"]["theirs"] == "10500"


def test_the_admin_only_shows() -> None:
    told()
    from kalshi_site.models import User

    root = User.objects.create_superuser("root", password="x" * 20)
    client = Client()
    client.force_login(root)
    assert client.get("/admin/trading/workitem/").status_code == 200
    assert client.get("/admin/trading/workitem/add/").status_code == 403
