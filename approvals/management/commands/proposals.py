"""`manage.py proposals list|approve|decline`: the queue from a terminal, through the same activities as the pages."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from approvals import decisions
from approvals.models import Proposal
from kalshi_site.errors import kind_of
from kalshi_site.models import User

REFUSED_EXIT = 3
MARK = 12  # characters of the terms' hash: enough to tell any two terms apart by eye and by machine


class Command(BaseCommand):
    help = "List the waiting proposals, or decide one in your name. Exit code 3: refused, with the reason."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=["list", "approve", "decline"])
        parser.add_argument("proposal", nargs="?", help="prop_…")
        parser.add_argument("--seen", type=int, help="the version that you saw in the list")
        parser.add_argument("--terms", default="", help="the terms' mark that you saw in the list")
        parser.add_argument("--as", dest="username", help="your user name")
        parser.add_argument("--reason", default="")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        """Print the queue, or the decided proposal."""
        if act == "list":
            for proposal in Proposal.objects.decidable():
                self.stdout.write(_line(proposal))
            return
        self.stdout.write(_line(_decide(act, **options)))


def _decide(
    act: str,
    *,
    proposal: str | None,
    seen: int | None,
    terms: str,
    username: str | None,
    reason: str,
    **_: Any,
) -> Proposal:
    if not (proposal and seen and len(terms) >= MARK and username):
        raise CommandError("name the proposal, --seen, --terms and --as", returncode=2)
    row = Proposal.objects.filter(public_id=proposal).first()
    actor = User.objects.filter(username=username, is_active=True).first()
    if row is None or actor is None:
        raise CommandError("no such proposal" if row is None else "no such user", returncode=2)
    shown = row.terms_hash if row.terms_hash.startswith(terms) else terms
    try:
        if act == "approve":
            return decisions.approve(
                proposal=row, version=seen, terms_hash=shown, actor=actor, method="cli", note=reason
            )
        return decisions.decline(
            proposal=row, version=seen, terms_hash=shown, actor=actor, method="cli", reason=reason
        )
    except Exception as error:
        kind = kind_of(error)
        if not hasattr(error, "code"):
            raise
        raise CommandError(f"{kind.code} {kind.title}: {error}", returncode=REFUSED_EXIT) from error


def _line(proposal: Proposal) -> str:
    return (
        f"{proposal.public_id} v{proposal.version} {proposal.state} {proposal.risk_level} "
        f"{proposal.action} {proposal.quantity} {proposal.side} {proposal.ticker} at {proposal.limit_price:.4f} "
        f"until {proposal.deadline_at:%H:%M:%S} UTC terms {proposal.terms_hash[:MARK]}"
    )
