"""A repeated request has one effect and one answer (RELIABILITY.md B2)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection
from django.utils import timezone

from approvals import decisions
from approvals.models import Decision
from kalshi_site import idempotency
from kalshi_site.idempotency import Answer, Refused, StillRunning, answer_once, forget_old
from kalshi_site.models import IdempotencyRecord
from portfolio.models import CashEntry, Reservation
from tests.callers import Caller, code_of
from tests.factories import ProposalFactory, approver, funded, quoted_market


@pytest.mark.django_db
def test_a_repeat_gets_the_first_answer_and_says_so() -> None:
    funded()
    caller, proposal = Caller.of("approver"), ProposalFactory()
    first = caller.approve(proposal, key="one")
    again = caller.approve(proposal, key="one")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    assert again["ETag"] == first["ETag"]
    assert Decision.objects.count() == 1


@pytest.mark.django_db
def test_a_refusal_is_kept_like_an_answer() -> None:
    caller, proposal = Caller.of("approver"), ProposalFactory()
    poor = caller.approve(proposal, key="one")
    funded()
    again = caller.approve(proposal, key="one")
    assert code_of(poor) == "E301"
    assert again.content == poor.content
    assert again["Content-Type"] == "application/problem+json"
    assert caller.approve(proposal, key="two").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("change", ["body", "precondition", "address"])
def test_the_same_key_with_another_request_is_refused(change: str) -> None:
    funded()
    caller, proposal, other = Caller.of("approver"), ProposalFactory(), ProposalFactory()
    said = {"terms_hash": proposal.terms_hash, "note": "a"}
    caller.approve(proposal, key="one", **said)
    changed = other if change == "address" else proposal
    response = caller.approve(
        changed,
        key="one",
        seen='"v2"' if change == "precondition" else '"v1"',
        **(said | {"note": "b"} if change == "body" else said),
    )
    assert (response.status_code, code_of(response)) == (422, "E206")
    assert Decision.objects.count() == 1


@pytest.mark.django_db
def test_the_same_body_in_another_spelling_is_the_same_request() -> None:
    funded()
    caller, proposal = Caller.of("approver"), ProposalFactory()
    path = f"/proposals/{proposal.public_id}/approve"
    terms = proposal.terms_hash
    caller.post(path, f'{{"note":"a","terms_hash":"{terms}"}}', key="one", If_Match='"v1"')
    again = caller.post(path, f'{{ "terms_hash" : "{terms}", "note" : "a" }}', key="one", If_Match='"v1"')
    assert (again.status_code, again["Idempotency-Replayed"]) == (200, "true")


@pytest.mark.django_db
def test_keys_of_two_people_are_apart() -> None:
    funded()
    one, two = Caller.of("approver"), Caller.of("approver", username="approver2")
    for caller in (one, two):
        proposal = ProposalFactory()
        response = caller.approve(proposal, key="same")
        assert response.status_code == 200
        assert "Idempotency-Replayed" not in response


@pytest.mark.django_db
@pytest.mark.parametrize("key", [None, " ", "k" * 129, "schlüssel"])
def test_a_decision_needs_a_usable_key(key: str | None) -> None:
    caller, proposal = Caller.of("approver"), ProposalFactory()
    response = caller.approve(proposal, key=key)
    assert (response.status_code, code_of(response)) == (400, "E205")
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
def test_a_running_first_attempt_is_waited_for() -> None:
    user = approver()
    IdempotencyRecord.objects.create(owner=user, key="one", request_hash="h", created_at=timezone.now())
    with pytest.raises(StillRunning):
        answer_once(owner=user, key="one", request_hash="h", attempt=lambda: Answer(200, {}, {}))


@pytest.mark.django_db
def test_a_still_running_answer_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    caller, proposal = Caller.of("approver"), ProposalFactory()
    monkeypatch.setattr(idempotency, "request_hash", lambda _: "h")
    IdempotencyRecord.objects.create(
        owner=caller.user, key="one", request_hash="h", created_at=timezone.now()
    )
    response = caller.approve(proposal, key="one")
    assert (response.status_code, code_of(response)) == (409, "E207")
    assert response["Retry-After"] == "1"
    assert response.json()["retryable"] is True


@pytest.mark.django_db
def test_an_attempt_whose_process_died_is_made_again_by_one_caller() -> None:
    user = approver()
    long_ago = timezone.now() - 2 * idempotency.ABANDONED_AFTER
    IdempotencyRecord.objects.create(owner=user, key="one", request_hash="h", created_at=long_ago)
    answer, replayed = answer_once(
        owner=user, key="one", request_hash="h", attempt=lambda: Answer(200, {"done": True}, {})
    )
    assert (answer.status, replayed) == (200, False)
    again, replayed = answer_once(
        owner=user, key="one", request_hash="h", attempt=lambda: pytest.fail("ran twice")
    )
    assert (again.body, replayed) == ({"done": True}, True)


@pytest.mark.django_db
def test_a_fault_is_not_frozen_and_leaves_nothing_behind() -> None:
    user = approver()

    def breaks() -> Answer:
        funded("1.00")
        raise Refused(Answer(500, {}, {}, lasting=False))

    answer, _ = answer_once(owner=user, key="one", request_hash="h", attempt=breaks)
    assert answer.status == 500
    assert not IdempotencyRecord.objects.exists()
    assert not CashEntry.objects.exists()


@pytest.mark.django_db
def test_who_was_overtaken_rolls_back() -> None:
    user = approver()

    def overtaken() -> Answer:
        funded("1.00")
        IdempotencyRecord.objects.update(created_at=timezone.now() + timedelta(seconds=1))
        return Answer(200, {}, {})

    with pytest.raises(StillRunning):
        answer_once(owner=user, key="one", request_hash="h", attempt=overtaken)
    assert not CashEntry.objects.exists()


@pytest.mark.django_db
def test_a_fault_in_the_middle_of_a_decision_leaves_the_proposal_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    funded()
    caller, proposal = Caller.of("approver"), ProposalFactory()

    def power_cut(approved: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(decisions, "announce_approval", power_cut)
        assert code_of(caller.approve(proposal, key="one")) == "E901"
    assert not Decision.objects.exists()
    assert not Reservation.objects.exists()
    repeated = caller.approve(proposal, key="one")
    assert (repeated.status_code, repeated.json()["status"]) == (200, "approved")


@pytest.mark.django_db
def test_keys_are_forgotten_after_a_day() -> None:
    user, now = approver(), timezone.now()
    for hours in (1, 23, 25):
        IdempotencyRecord.objects.create(
            owner=user, key=f"{hours}", request_hash="h", created_at=now - timedelta(hours=hours)
        )
    _, replayed = answer_once(owner=user, key="25", request_hash="other", attempt=lambda: Answer(200, {}, {}))
    assert replayed is False
    assert forget_old(now + timedelta(hours=2)) == 1


@pytest.mark.two_writers
@pytest.mark.django_db(transaction=True)
def test_twenty_equal_posts_at_once_have_one_effect_and_equal_answers() -> None:
    funded()
    caller = Caller.of("approver")
    proposal = ProposalFactory(market=quoted_market())
    together = Barrier(20)
    # A web process has one handler, whose meters are made before it answers anybody; here each client has its own.
    assert caller.get(f"/proposals/{proposal.public_id}").status_code == 200

    def post() -> tuple[int, str, bool]:
        script = Caller.__new__(Caller)
        script.client = type(caller.client)(headers={"Authorization": f"Bearer {caller.token}"})
        together.wait(timeout=30)
        try:
            response = script.approve(proposal, key="same")
            return response.status_code, response.content.decode(), "Idempotency-Replayed" in response
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=20) as pool:
        answers = [future.result() for future in [pool.submit(post) for _ in range(20)]]
    statuses = Counter(status for status, _, _ in answers)
    assert set(statuses) <= {200, 409}
    done = [(body, replayed) for status, body, replayed in answers if status == 200]
    assert len({body for body, _ in done}) == 1
    assert sum(not replayed for _, replayed in done) == 1
    assert all('"E207"' in body for status, body, _ in answers if status == 409)
    assert Decision.objects.count() == 1
    assert Reservation.objects.count() == 1
