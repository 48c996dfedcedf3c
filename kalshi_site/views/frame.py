"""The frame around every page: mode, trading state, equity, what waits, where one can go."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals.models import Proposal
from kalshi_site.live import changes
from kalshi_site.models import User
from kalshi_site.observability import request_id
from portfolio.domain.scopes import in_words
from portfolio.models import EquityPoint, TradingState
from portfolio.risk import UnknownLimit, limits, standing, trading_state
from portfolio.views.state import next_page
from trading.domain.hours import Standing, words
from trading.execution.stand_in import execution_heard_at, is_execution_alive
from trading.models import DriftNote, Liquidation, Quote, WorkItem
from trading.models.exchange_state import exchange_facts

MODE_TEXTS = {
    "paper": "Simulated exchange. No real money moves.",
    "demo": "Kalshi's demo exchange. No real money moves.",
    "live": "LIVE EXCHANGE. Real money moves.",
}
TOPICS = ("proposals", "orders", "positions", "trading", "reconciliation", "quotes")
STYLESHEETS = tuple(
    f"css/{name}.css"
    for name in ("tokens", "base", "layout", "components", "pictures", "decision", "states", "guide", "adapt")
)
LIQUIDATING = ("LIQUIDATING", "halt", "warn")
DEGRADED = ("DEGRADED", "wait", "warn")
LOOKS = {
    "ACTIVE": ("TRADING", "go", "play"),
    "REDUCING": ("PAUSED", "pause", "pause"),
    "HALTED": ("STOPPED", "halt", "stop"),
}
EQUITY_HOLDS = timedelta(minutes=3)  # a point is stored each minute while every held market has a bid


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of the left column; `key` is the second key of its jump."""

    name: str
    url: str
    icon: str
    key: str
    current: bool


@dataclass(frozen=True, slots=True)
class StateChip:
    """The trading state with who, when and why."""

    mode: str
    word: str
    tone: str
    icon: str
    since: datetime
    by: str
    reason: str
    closer: tuple[str, ...] = ()  # what is paused or stopped by itself

    @property
    def told(self) -> str:
        """Who, when and why in one sentence, for hover and focus."""
        who = f" by {self.by}" if self.by else ""
        why = f": “{self.reason}”" if self.reason else ""
        return f"{self.word.capitalize()} since {self.since:%H:%M:%S} UTC{who}{why}"


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that base.html shows around a page. `equity` is None while unknown."""

    mode: str
    mode_text: str
    mode_note: str
    theme: str
    color_scheme: str
    themes: tuple[str, ...]
    stylesheets: tuple[str, ...]
    now: datetime
    server_ms: int
    version: str
    request_id: str
    path: str
    state: StateChip | None = None
    equity: Decimal | None = None
    waiting: int = 0
    drifts: int = 0
    work: int = 0
    topics: str = ""
    heartbeat: int = 0
    exchange: str = ""
    quotes_ms: int | None = None
    too_old_ms: int = 0
    places: tuple[tuple[Place, ...], ...] = ()
    roles: str = ""
    may_halt: bool = False
    may_resume: bool = False

    @property
    def quotes_age(self) -> str:
        """How long ago prices were proven, in words."""
        return "–" if self.quotes_ms is None else f"{max(0, self.server_ms - self.quotes_ms) / 1000:.1f} s"


@cache
def version() -> str:
    """The package's version, from its own declaration."""
    declared = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))
    return str(declared["project"]["version"])


def _note() -> str:
    """Where the orders go, in a word or two."""
    host = urlsplit(settings.KALSHI_REST_URL).netloc
    return f"exchange at {host}" if host else ""


def bare_frame(request: HttpRequest) -> Frame:
    """The frame of the door and of error pages: no rows are read."""
    theme = theme_of(request)
    now = timezone.now()
    return Frame(
        mode=settings.KALSHI_PROFILE,
        mode_text=MODE_TEXTS[settings.KALSHI_PROFILE],
        mode_note=_note(),
        theme=theme,
        color_scheme="dark light" if theme == "system" else theme,
        themes=tuple(User.Theme.values),
        stylesheets=STYLESHEETS,
        now=now,
        server_ms=int(now.timestamp() * 1000),
        version=version(),
        request_id=request_id.get(),
        path=request.get_full_path() if request.method == "GET" else "/",
        heartbeat=settings.LIVE_HEARTBEAT_SECONDS,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asks for a frame, of which desk, and when."""

    request: HttpRequest
    user: User
    venue: str
    now: datetime


def frame_of(request: HttpRequest, part: str = "") -> Frame:
    """The frame of this request, or what one live piece of it shows; the bare one where nobody is signed in."""
    user = getattr(request, "user", None)
    bare = bare_frame(request)
    if not isinstance(user, User):
        return bare
    asked = _Asked(request, user, settings.KALSHI_PROFILE, bare.now)
    return replace(bare, **{name: _READ[name](asked) for name in PARTS.get(part, _READ)})


def _equity(asked: _Asked) -> Decimal | None:
    points = EquityPoint.objects.filter(venue=asked.venue, at__gte=asked.now - EQUITY_HOLDS)
    return points.order_by("-at").values_list("equity", flat=True).first()


def _topics(asked: _Asked) -> str:
    """As they stood before the view read its rows: what changes meanwhile is then missed by nobody."""
    known = getattr(asked.request, "live_heads", None) or changes.heads(TOPICS)
    return json.dumps(
        {topic: [known[topic].epoch, known[topic].version] if topic in known else ["", 0] for topic in TOPICS}
    )


def _quotes_ms(asked: _Asked) -> int | None:
    proven = Quote.objects.aggregate(at=Max("verified_at"))["at"]
    return None if proven is None else int(proven.timestamp() * 1000)


def _too_old_ms(asked: _Asked) -> int:
    """0 where the limits cannot be read: no frame fails for that, since Stop is in it."""
    try:
        return int(limits()["data_age"] * 1000)
    except UnknownLimit:
        return 0


_READ: Final[Mapping[str, Callable[[_Asked], Any]]] = {
    "state": lambda asked: _chip(asked.venue),
    "equity": _equity,
    "waiting": lambda asked: Proposal.objects.filter(venue=asked.venue).decidable().count(),
    "drifts": lambda asked: DriftNote.objects.alarming(asked.venue).count(),
    "work": lambda asked: WorkItem.objects.unanswered(asked.venue).count(),
    "topics": _topics,
    "exchange": lambda asked: _pause(asked.now),
    "quotes_ms": _quotes_ms,
    "too_old_ms": _too_old_ms,
    "places": lambda asked: _places(asked.request, asked.user),
    "roles": lambda asked: ", ".join(asked.user.groups.values_list("name", flat=True)),
    "may_halt": lambda asked: asked.user.has_perm("portfolio.stop_trading"),
    "may_resume": lambda asked: asked.user.has_perm("portfolio.resume_trading"),
}
# Each piece is fetched again and again, so it reads what it shows and no more.
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "exchange": ("exchange",),
    "vitals": ("equity",),
    "state": ("state", "quotes_ms", "too_old_ms", "may_halt", "may_resume"),
    "waiting": ("waiting",),
    "alarm": ("drifts",),
    "work": ("work",),
}


def theme_of(request: HttpRequest) -> str:
    """The signed-in person's theme, else the cookie's, else the system's; set by the server, so nothing flashes."""
    user = getattr(request, "user", None)
    chosen = user.theme if isinstance(user, User) else request.COOKIES.get("theme", "")
    return chosen if chosen in User.Theme.values else "system"


def _pause(now: datetime) -> str:
    """Why the exchange takes no orders now, as a sentence; empty while it trades."""
    facts = exchange_facts()
    if facts.standing(now) is not Standing.TRADING:
        return f"{words(facts, now).capitalize()}."
    shards = ", ".join(str(shard.exchange_index) for shard in facts.paused_shards())
    return f"The exchange takes no orders in shard {shards}." if shards else ""


def _chip(venue: str) -> StateChip:
    """The state of everything; LIQUIDATING while a liquidation works, DEGRADED while nobody would carry orders out."""
    row = trading_state(venue)
    since, by, reason = row.changed_at, row.changed_by, row.reason
    word, tone, icon = LOOKS[row.mode]
    if work := Liquidation.objects.working(venue).in_time().first():
        (word, tone, icon), since, by, reason = LIQUIDATING, work.created_at, work.actor, work.reason
    elif row.mode == TradingState.Mode.ACTIVE and not is_execution_alive():
        (word, tone, icon), by = DEGRADED, ""
        since, reason = execution_heard_at() or since, "execution is silent: approved orders wait"
    closer = tuple(
        f"{LOOKS[each.mode][0].capitalize()} for {in_words(each.scope)}"
        for each in standing(venue)
        if each.scope
    )
    return StateChip(row.mode, word, tone, icon, since, by, reason, closer)


def _places(request: HttpRequest, user: User) -> tuple[tuple[Place, ...], ...]:
    """Only pages that exist, and only those this person may open."""

    def place(name: str, url: str, icon: str, key: str = "") -> Place:
        here = request.path == url or (url != "/" and request.path.startswith(f"{url}/"))
        return Place(name, url, icon, key, here)

    desk = (
        place("Dashboard", "/", "dash", "d"),
        place("Approvals", "/approvals", "inbox", "a"),
        place("Markets", "/markets", "market", "m"),
        place("Orders", "/orders", "list", "o"),
        place("Positions", "/positions", "layers", "p"),
    )
    rest = [
        place("Risk", "/risk", "shield", "r"),
        place("Health", "/health", "pulse", "h"),
        place("Reconciliation", "/reconciliation", "ok", "c"),
        place("API", "/api/docs", "code"),
        place("Help", "/help", "info"),
    ]
    if user.is_staff:
        if user.has_perm("kalshi_site.view_auditentry"):
            rest.append(place("Audit", "/admin/kalshi_site/auditentry/", "book", "u"))
        rest.append(place("Admin", "/admin/", "gear"))
    return desk, tuple(rest)


@require_GET
def part(request: HttpRequest, name: str) -> HttpResponse:
    """One live piece of the frame: vitals, state, waiting or alarm, for the page that shows it."""
    if name not in PARTS:
        raise Http404
    frame = replace(frame_of(request, name), path=_page_shown(request))
    return render(request, f"base.html#{name}", {"frame": frame})


def _page_shown(request: HttpRequest) -> str:
    """Where the page is that asked: a piece's forms lead back there, never to the piece itself."""
    try:
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
    except ValueError:  # such as a bracket that nothing closes
        return "/"
    return next_page(page._replace(scheme="", netloc="", fragment="").geturl())
