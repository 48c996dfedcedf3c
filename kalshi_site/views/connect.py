"""The page that explains how to connect to Kalshi, with how the present connection stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from kalshi_site.guides import guide
from kalshi_site.locks import silent
from kalshi_site.models import Lease
from kalshi_site.views.frame import MODE_TEXTS
from trading.domain.hours import Window, words
from trading.execution.process import LEASE, LEASE_TTL
from trading.models import Listener, Quote
from trading.models.exchange_state import exchange_facts

GUIDE = "connect-to-demo"


@dataclass(frozen=True, slots=True)
class Status:
    """The connection as the desk's own rows tell it: this process holds no key and asks nobody."""

    mode: str
    text: str
    host: str
    secure: bool
    word: str
    sentence: str
    window: Window | None
    quotes: datetime | None
    executing: bool
    listeners: list[Listener]


@login_not_required
@require_GET
def connect(request: HttpRequest) -> HttpResponse:
    """The guide for everybody; the status for who is signed in."""
    signed_in = request.user.is_authenticated
    context = {
        "guide": guide(GUIDE),
        "layout": "base.html" if signed_in else "door.html",
        "status": _status() if signed_in else None,
    }
    fragment = signed_in and getattr(request, "htmx", False)
    return render(request, "help/connect.html#status" if fragment else "help/connect.html", context)


def _status() -> Status:
    venue, now, facts = settings.KALSHI_PROFILE, timezone.now(), exchange_facts()
    address = urlsplit(settings.KALSHI_REST_URL)
    sentence = words(facts, now)
    return Status(
        mode=venue,
        text=MODE_TEXTS[venue],
        host=address.netloc,
        secure=address.scheme == "https",
        word=facts.standing(now).value,
        sentence=sentence[0].upper() + sentence[1:],
        window=facts.next_window(now),
        quotes=Quote.objects.aggregate(at=Max("verified_at"))["at"],
        executing=Lease.objects.filter(name=LEASE).exclude(silent(LEASE_TTL, unheard_for=LEASE_TTL)).exists(),
        listeners=list(Listener.objects.filter(venue=venue).order_by("process")),
    )
