"""How a proposal may move. Times are UTC; `now` comes in as an argument."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from enum import StrEnum

from trading.domain.orders import Terms


class ProposalState(StrEnum):
    PENDING = "pending"
    HALF_APPROVED = "half_approved"
    APPROVED = "approved"
    CLAIMED = "claimed"
    DECLINED = "declined"
    DENIED = "denied"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    SENT_BACK = "sent_back"
    WITHDRAWN = "withdrawn"
    VOIDED = "voided"


_S = ProposalState

# declined: by a person. denied: by our rules. voided: approved, but not sent (halt, collar, expiry at the claim).
PROPOSAL_TRANSITIONS: dict[ProposalState, frozenset[ProposalState]] = {
    _S.PENDING: frozenset(
        {
            _S.HALF_APPROVED,
            _S.APPROVED,
            _S.DECLINED,
            _S.DENIED,
            _S.EXPIRED,
            _S.SUPERSEDED,
            _S.SENT_BACK,
            _S.WITHDRAWN,
        }
    ),
    _S.HALF_APPROVED: frozenset(
        {
            _S.HALF_APPROVED,  # one more of several
            _S.APPROVED,
            _S.DECLINED,
            _S.DENIED,
            _S.EXPIRED,
            _S.SUPERSEDED,
            _S.SENT_BACK,
            _S.WITHDRAWN,
        }
    ),
    _S.APPROVED: frozenset({_S.CLAIMED, _S.VOIDED}),
}
DECIDABLE = frozenset({_S.PENDING, _S.HALF_APPROVED})
FINAL = frozenset(_S) - PROPOSAL_TRANSITIONS.keys()


class WrongState(Exception):
    """The proposal's state does not allow this any more. Carries the state it is in."""

    code = "E212"

    def __init__(self, state: ProposalState, wanted: ProposalState) -> None:
        super().__init__(f"the proposal is {state.value.replace('_', ' ')}; it cannot become {wanted.value}")
        self.state, self.wanted = state, wanted


class TermsChanged(Exception):
    """The terms that the person saw are not those of the proposal: nobody may be bound to terms that were not shown."""

    code = "E208"

    def __init__(self) -> None:
        super().__init__(
            "the terms that you saw are not the proposal's terms now; look at them and decide again"
        )


class DeadlinePassed(Exception):
    """The server's deadline has passed. What happens without a decision is: it expires, not traded."""

    code = "E210"

    def __init__(self, deadline_at: datetime) -> None:
        super().__init__(
            f"the deadline passed at {deadline_at:%H:%M:%S} UTC; the proposal expires, not traded"
        )
        self.deadline_at = deadline_at


def require_move(before: ProposalState, after: ProposalState) -> None:
    """Raise WrongState unless the table allows the move."""
    if after not in PROPOSAL_TRANSITIONS.get(before, frozenset()):
        raise WrongState(before, after)


def terms_hash(terms: Terms, *, reduce_only: bool, venue: str) -> str:
    """SHA-256 over everything an approval binds to, in one canonical form."""
    facts = {
        "venue": venue,
        "ticker": terms.ticker,
        "action": terms.action.value,
        "side": terms.side.value,
        "quantity": f"{terms.quantity:.2f}",
        "limit_price": f"{terms.limit_price:.4f}",
        "reduce_only": reduce_only,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
