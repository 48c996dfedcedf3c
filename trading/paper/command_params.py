"""What the parameters of a stream command say, and the error codes for what they must not say (API.md 14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trading.paper.subscriptions import BY_MARKET, FEEDS, Channel, Feed, Subscription

MESSAGES = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    4: "Subscription IDs required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    9: "Authentication required",
    10: "Channel error",
    11: "Invalid parameter",
    12: "Exactly one subscription ID is required",
    13: "Unsupported action",
    14: "Market Ticker required",
    15: "Action required",
    18: "Command timeout",
    19: "shard_factor must be > 0",
    20: "shard_factor is required when shard_key is set",
    21: "shard_key must be >= 0 and < shard_factor",
    22: "shard_factor must be <= 100",
    23: "Match IDs required",
    24: "Index IDs required",
    25: "Subscription buffer overflow",
    26: "Subscription market limit exceeded",
    27: "Too many requests",
    28: "Underlying tickers required",
}
MOST_SHARDS = 100
_MARKET_WAYS = ("market_ticker", "market_tickers", "market_id", "market_ids")
Params = Mapping[str, Any]


class CommandError(Exception):
    """A command that is answered with an error; on a subscription of ours the answer takes part in its sequence."""

    def __init__(self, code: int, subscription: Subscription | None = None) -> None:
        super().__init__(MESSAGES[code])
        self.code, self.subscription = code, subscription


@dataclass(frozen=True, slots=True)
class Markets:
    """The markets that a command names, by ticker or (on the ticker channel only) by id."""

    names: list[str]
    by_id: bool


def command_id(message: Mapping[str, Any]) -> int:
    """The command's id; 0 counts as none. Raises CommandError."""
    given = message.get("id", 0)
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise CommandError(11)
    return given


def channels(params: Params) -> list[Channel]:
    """The channels of a subscribe, each once. Raises CommandError."""
    names = params.get("channels")
    if not isinstance(names, list) or not names:
        raise CommandError(3)
    if any(not isinstance(name, str) or name not in set(Channel) for name in names):
        raise CommandError(8)
    return list(dict.fromkeys(Channel(name) for name in names))


def markets(params: Params) -> Markets | None:
    """The markets named in at most one of the four ways, or None. Raises CommandError."""
    given = [way for way in _MARKET_WAYS if params.get(way)]
    if not given:
        return None
    value = params[given[0]]
    names = value if isinstance(value, list) else [value]
    if len(given) > 1 or any(not isinstance(name, str) for name in names):
        raise CommandError(11)
    return Markets(list(dict.fromkeys(names)), by_id=given[0].startswith("market_id"))


def require_fitting(wanted: list[Channel], named: Markets | None, params: Params) -> None:
    """Refuse what a channel of these does not take: no markets, ids, shards out of range. Raises CommandError."""
    if Channel.ORDERBOOK_DELTA in wanted and not named:
        raise CommandError(14)
    if named is not None and named.by_id and wanted != [Channel.TICKER]:
        raise CommandError(11)
    if named is not None and any(channel in FEEDS for channel in wanted):
        raise CommandError(11)
    if Channel.COMMUNICATIONS in wanted:
        _require_shards(params)
        if params.get("user_filter", "") not in ("", "self"):  # a tuple: what was sent may be a list
            raise CommandError(11)


def _require_shards(params: Params) -> None:
    factor, key = params.get("shard_factor"), params.get("shard_key")
    if any(value is not None and (not isinstance(value, int) or value is True) for value in (factor, key)):
        raise CommandError(11)
    if factor is None:
        if key is not None:
            raise CommandError(20)
        return
    if factor <= 0:
        raise CommandError(19)
    if factor > MOST_SHARDS:
        raise CommandError(22)
    if key is not None and not 0 <= key < factor:
        raise CommandError(21)


def feed_names(feed: Feed, params: Params) -> list[str]:
    """A feed's own names, perhaps none. Raises CommandError."""
    names = params.get(feed.names)
    if names is None:
        return []
    if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
        raise CommandError(11)
    return list(dict.fromkeys(names))


def market_filter(channel: Channel, tickers: list[str] | None) -> list[str] | None:
    """The markets as this channel takes them: those without a filter tell of everything."""
    return tickers if channel in BY_MARKET else None


def one_sid(params: Params) -> int:
    """The one subscription that an update names, by `sid` or a one-element `sids`. Raises CommandError."""
    sid, sids = params.get("sid"), params.get("sids")
    if sid is None and sids is None:
        raise CommandError(4)
    if sids is not None and (sid is not None or not isinstance(sids, list) or len(sids) != 1):
        raise CommandError(12)
    wanted = sid if sids is None else sids[0]
    if not isinstance(wanted, int):
        raise CommandError(7)
    return wanted
