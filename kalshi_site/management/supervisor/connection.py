"""The doctor's looks at the exchange: is it it, is our clock its clock, do the keys fit, and may they too much.

1. The address belongs to the profile, answers, and by TLS proves who it is.
2. Its clock and ours differ by less than signatures and expiries allow.
3. The reading key signs a read; the exchange tells its tier, its buckets and what each of our keys may do.
4. The trading key signs a read too. Nothing is ever ordered, canceled or changed here.
5. The stream accepts a signed handshake.

What fails early makes the later looks pointless: they are left out, so that one cause is one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from django.utils import timezone

from kalshi_site.env import Problem
from kalshi_site.management.supervisor.findings import Finding, ok, when
from trading.domain.hours import ExchangeFacts, Standing, Window, words
from trading.exchange.account import Account
from trading.exchange.account_reports import ApiKeyReport
from trading.exchange.auth import Signer, open_signer
from trading.exchange.errors import (
    AccessDenied,
    ExchangeError,
    ExchangeRefusal,
    KeyFileRefused,
    TimestampExpired,
    Untrusted,
)
from trading.exchange.events import Connected, Disconnected, StreamEvent
from trading.exchange.link import Link
from trading.exchange.market_data import MarketData
from trading.exchange.reads import Reads
from trading.exchange.reports import AccountLimits
from trading.exchange.stream import Stream
from trading.exchange.transport import Timeouts, Transport
from trading.exchange.venue_clock import ALARM_MS, REFUSE_MS

STREAM_WITHIN: Final = 10.0  # seconds
QUICK: Final = Timeouts(connect=3.0, read=5.0, total=8.0)
TRADE, TRANSFER = "write::trade", "write::transfer"
HOW_TO: Final = "See the page /help/connect or docs/how-to/connect-to-demo.md."
NOT_THE_EXCHANGE: Final = "Correct the address, this machine's clock or KALSHI_CA_FILE; nothing was sent."
# The exchange's word for a refused signature (API.md 3), and what it means for whoever set the key.
REFUSALS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "INCORRECT_API_KEY_SIGNATURE": (
            "the private key does not belong to this key id",
            "Name the file that was saved when this very key was made.",
        ),
        "NOT_FOUND": (
            "the exchange does not know this key id",
            "Make a key in this environment: demo and production keys are not interchangeable.",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class KeySetting:
    """A key as the settings name it; `key_file` is None where they do not. `kind` is read or trade."""

    kind: str
    key_id: str
    key_file: Path | None

    @property
    def names(self) -> str:
        kind = self.kind.upper()
        return f"KALSHI_{kind}_KEY_ID and KALSHI_{kind}_KEY_FILE"

    @property
    def title(self) -> str:
        return "Reading key" if self.kind == "read" else "Trading key"


@dataclass(slots=True)
class Connection:
    """What is looked at, and by which clock. `problems` are the settings' own contradictions."""

    profile: str
    rest_url: str
    ws_url: str
    read: KeySetting
    trade: KeySetting
    problems: tuple[Problem, ...] = ()
    ca_file: Path | None = None
    link: Link = field(default_factory=Link)
    stream_within: float = STREAM_WITHIN

    def examine(self) -> Iterator[Finding]:
        """All looks, in order."""
        if self.problems:
            for problem in self.problems:
                yield Finding("Settings", "failure", f"{problem.code} {problem.text}", problem.hint)
            return
        yield ok("Profile", f"{self.profile}, at {urlsplit(self.rest_url).netloc}")
        for look in (self._address, self._clock, self._keys):
            findings = list(look())
            yield from findings
            if any(finding.verdict == "failure" for finding in findings):
                return

    def reach(self) -> Iterator[Finding]:
        """Only the looks that need no key."""
        for look in (self._address, self._clock):
            findings = list(look())
            yield from findings
            if any(finding.verdict == "failure" for finding in findings):
                return

    # --- 1, 2

    def _address(self) -> Iterator[Finding]:
        try:
            with closing(MarketData(self._reads(None))) as public:
                told = public.exchange_state()
        except Untrusted as error:
            yield Finding("Address", "failure", f"{error.code} {error}", NOT_THE_EXCHANGE)
            return
        except ExchangeError as error:
            yield Finding("Address", "failure", f"{error.code} {error}", "Check the network and the address.")
            return
        yield ok("Address", _identity(self.rest_url, self.ca_file))
        now = timezone.now()
        shards = tuple(told.shards)
        facts = ExchangeFacts(
            told.is_active, told.is_trading, now, told.resumes_at, shards, weekly=_rests(self)
        )
        good = facts.standing(now) is Standing.TRADING
        yield when(good, "Exchange", words(facts, now), "Wait; the desk sends nothing meanwhile.", "warning")
        if window := facts.next_window(now):
            yield ok("Maintenance", f"next {_span(window)}")

    def _clock(self) -> Iterator[Finding]:
        skew = self.link.clock.skew_ms
        name, detail = "Clock", f"{skew / 1000:+.1f} s from the exchange's"
        fix = "Set this machine's clock (NTP); until then no order is signed."
        if abs(skew) > REFUSE_MS:
            yield Finding(name, "failure", f"E611 {detail}, beyond the bound of {REFUSE_MS // 1000} s", fix)
        else:
            yield when(abs(skew) <= ALARM_MS, name, detail, fix, "warning")

    # --- 3, 4, 5

    def _keys(self) -> Iterator[Finding]:
        signers: dict[str, Signer] = {}
        for setting in (self.read, self.trade):
            try:
                signers[setting.kind] = _signer(setting)
            except KeyFileRefused as error:
                yield Finding(setting.title, "failure", f"{error.code} {error}", HOW_TO)
        if "read" in signers:
            yield from self._account(signers["read"], signers.get("trade"))
            yield from self._stream(signers["read"])

    def _account(self, read: Signer, trade: Signer | None) -> Iterator[Finding]:
        with closing(Account(self._reads(read))) as account:
            try:
                limits = account.limits()
                keys = {key.key_id: key for key in account.api_keys()}
            except ExchangeError as error:
                yield _refused(self.read, error)
                return
        yield from _read_scopes(self.read, keys.get(read.key_id))
        yield ok("Rate limits", _limits(limits))
        if trade is None:
            return
        refused = self._signs(trade)
        if refused is not None:
            yield _refused(self.trade, refused)
            return
        yield from _trade_scopes(self.trade, keys.get(trade.key_id))

    def _signs(self, trade: Signer) -> ExchangeError | None:
        """What the exchange has against the trading key's signature. A 403 is no fault: it lacks `read`."""
        with closing(Account(self._reads(trade))) as account:
            try:
                account.limits()
            except ExchangeRefusal as error:
                return None if error.answer.status == 403 else error
            except ExchangeError as error:
                return error
        return None

    def _stream(self, signer: Signer) -> Iterator[Finding]:
        reason = asyncio.run(self._handshake(signer))
        yield when(not reason, "Stream", reason or "handshake accepted", "Check KALSHI_WS_URL and the key.")

    async def _handshake(self, signer: Signer) -> str:
        stream = Stream(self.ws_url, signer, {}, sign_ms=self.link.clock.now_ms)
        heard: list[StreamEvent] = []
        done = asyncio.Event()

        def note(event: StreamEvent) -> None:
            heard.append(event)
            done.set()

        running = asyncio.create_task(stream.run(note))
        try:
            async with asyncio.timeout(self.stream_within):
                await done.wait()
        except TimeoutError:
            return f"no answer within {self.stream_within:.0f} s"
        finally:
            await stream.stop()
            await running
        match heard[0]:
            case Connected():
                return ""
            case Disconnected(reason=reason):
                return reason
        return f"{heard[0]!r} where a handshake was expected"

    def _reads(self, signer: Signer | None) -> Reads:
        return Reads(Transport(self.rest_url, signer, timeouts=QUICK, link=self.link), attempts=1)


def reach(rest_url: str, profile: str) -> Iterator[Finding]:
    """Whether the exchange answers, trades and has our time; needs no key."""
    nobody = KeySetting("read", "", None)
    yield from Connection(profile, rest_url, "", nobody, nobody).reach()


def _signer(setting: KeySetting) -> Signer:
    if setting.key_file is None:
        raise KeyFileRefused(f"not set: {setting.names}")
    return open_signer(setting.key_id, setting.key_file)


def _identity(rest_url: str, ca_file: Path | None) -> str:
    if urlsplit(rest_url).scheme != "https":
        return "answers; without TLS, which only this machine itself may be"
    also = f" or {ca_file}" if ca_file else ""
    return f"answers; its certificate is verified (authorities of the system{also})"


def _rests(connection: Connection) -> bool:
    return connection.profile != "paper"


def _span(window: Window) -> str:
    return f"{window.start_at.day} {window.start_at:%b %H:%M} to {window.end_at:%H:%M} UTC"


def _limits(limits: AccountLimits) -> str:
    return (
        f"tier {limits.tier}: {limits.read_per_second} read tokens a second (up to {limits.read_capacity}), "
        f"{limits.write_per_second} write (up to {limits.write_capacity}); a request costs about 10"
    )


def _refused(setting: KeySetting, error: ExchangeError) -> Finding:
    if isinstance(error, TimestampExpired):
        fix = "Set this machine's clock (NTP): signatures carry the time."
        return Finding(setting.title, "failure", "E611 the exchange refuses the time of our signature", fix)
    if isinstance(error, AccessDenied):
        told, fix = REFUSALS.get(error.answer.details, (str(error), HOW_TO))
        return Finding(setting.title, "failure", f"{error.code} {told}", fix)
    return Finding(setting.title, "failure", f"{error.code} {error}", HOW_TO)


def _read_scopes(setting: KeySetting, key: ApiKeyReport | None) -> Iterator[Finding]:
    if key is None:
        yield _unlisted(setting)
        return
    more = sorted(scope for scope in key.scopes if scope.partition("::")[0] != "read")
    fix = "Make a key with the scope read alone: feed and pages hold it."
    detail = f"accepted; it may {', '.join(sorted(key.scopes))}"
    yield when(not more, setting.title, detail, fix, "warning")


def _trade_scopes(setting: KeySetting, key: ApiKeyReport | None) -> Iterator[Finding]:
    if key is None:
        yield _unlisted(setting)
        return
    detail = f"accepted; it may {', '.join(sorted(key.scopes))}"
    if not key.scopes & {"write", TRADE}:
        yield Finding(setting.title, "failure", f"E604 {detail}", f"Make a key with the scope {TRADE}.")
    elif key.scopes & {"write", TRANSFER}:
        fix = f"Make a key with read and {TRADE} alone: this one may move money, which the desk never does."
        yield Finding(setting.title, "warning", f"{detail}, which includes transfers", fix)
    else:
        yield ok(setting.title, detail)


def _unlisted(setting: KeySetting) -> Finding:
    fix = "Use two keys of one account; else orders and books would be of different accounts."
    return Finding(
        setting.title, "failure", "E604 the account of the reading key does not list this key", fix
    )
