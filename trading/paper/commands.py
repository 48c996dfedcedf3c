"""The commands of the stream (API.md 14): subscribe, update_subscription, unsubscribe, list_subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import msgspec

from trading.paper.hub import Hub
from trading.paper.subscriptions import Channel, Outlet, Subscription

MESSAGES = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    4: "Subscription IDs required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    11: "Invalid parameter",
    12: "Exactly one subscription ID is required",
    13: "Unsupported action",
    14: "Market Ticker required",
    15: "Action required",
    25: "Subscription buffer overflow",
}
ACTIONS = frozenset({"add_markets", "delete_markets", "get_snapshot"})
Params = Mapping[str, Any]


class CommandError(Exception):
    """A command that is answered with an error; on a subscription of ours the answer takes part in its sequence."""

    def __init__(self, code: int, subscription: Subscription | None = None) -> None:
        super().__init__(MESSAGES[code])
        self.code, self.subscription = code, subscription


class Session:
    """The subscriptions of one connection and the commands that change them."""

    def __init__(self, hub: Hub, outlet: Outlet, reply: Callable[[dict[str, Any]], None]) -> None:
        self._hub = hub
        self._outlet = outlet
        self._reply = reply
        self._sids = count(1)
        self.subscriptions: dict[int, Subscription] = {}

    def receive(self, text: str | bytes) -> None:
        """Carry out one command and answer it."""
        command_id = 0
        try:
            message = self._decode(text)
            command_id = _command_id(message)
            self._run(message, command_id)
        except CommandError as error:
            self._answer_error(command_id, error)

    def close(self) -> None:
        """The connection is gone."""
        for subscription in self.subscriptions.values():
            self._hub.subscriptions.remove(subscription)
        self.subscriptions.clear()

    def drop(self, subscription: Subscription) -> None:
        """End one subscription without an answer (buffer overflow)."""
        self.subscriptions.pop(subscription.sid, None)
        self._hub.subscriptions.remove(subscription)

    @staticmethod
    def _decode(text: str | bytes) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CommandError(1) from error
        if not isinstance(message, dict):
            raise CommandError(1)
        return message

    def _run(self, message: dict[str, Any], command_id: int) -> None:
        command, params = message.get("cmd"), message.get("params")
        if command == "list_subscriptions":
            listed = [
                {"channel": item.channel.value, "sid": item.sid} for item in self.subscriptions.values()
            ]
            self._reply({**_identity(command_id), "type": "ok", "msg": listed})
            return
        verbs = {
            "subscribe": self._subscribe,
            "update_subscription": self._update,
            "unsubscribe": self._unsubscribe,
        }
        if command not in verbs:
            raise CommandError(5)
        if not isinstance(params, dict):
            raise CommandError(2)
        verbs[command](params, command_id)

    def _subscribe(self, params: Params, command_id: int) -> None:
        names = params.get("channels")
        if not isinstance(names, list) or not names:
            raise CommandError(3)
        if any(name not in set(Channel) for name in names):
            raise CommandError(8)
        channels = [Channel(name) for name in names]
        tickers = self._tickers(params, by_id=channels == [Channel.TICKER])
        if Channel.ORDERBOOK_DELTA in channels and not tickers:
            raise CommandError(14)
        for channel in channels:
            self._subscribe_channel(channel, tickers, params, command_id)

    def _subscribe_channel(
        self, channel: Channel, tickers: list[str] | None, params: Params, command_id: int
    ) -> None:
        wanted = None if channel is Channel.MARKET_LIFECYCLE else tickers
        known = next((item for item in self.subscriptions.values() if item.channel is channel), None)
        if known is not None:
            self._merge(known, wanted, params, command_id)
            return
        subscription = Subscription(
            next(self._sids),
            channel,
            self._outlet,
            wanted,
            use_yes_price=params.get("use_yes_price") is True,
            skip_ack_tickers=params.get("skip_ticker_ack") is True,
        )
        self.subscriptions[subscription.sid] = subscription
        self._hub.subscriptions.add(subscription)
        body = {"channel": channel.value, "sid": subscription.sid}
        self._reply({**_identity(command_id), "type": "subscribed", "msg": body})
        self._show(subscription, wanted or [], params)

    def _merge(
        self, subscription: Subscription, tickers: list[str] | None, params: Params, command_id: int
    ) -> None:
        """Subscribing to a channel again adds markets; without markets it widens to all."""
        fresh: list[str] = []
        if tickers is None:
            subscription.tickers = None
        elif subscription.tickers is not None:
            fresh = [ticker for ticker in tickers if ticker not in subscription.tickers]
            subscription.tickers |= set(fresh)
        self._hub.subscriptions.add(subscription)
        self._ok(subscription, command_id)
        self._show(subscription, fresh, params)

    def _update(self, params: Params, command_id: int) -> None:
        subscription = self._one(params)
        action = params.get("action")
        if not action:
            raise CommandError(15, subscription)
        if action not in ACTIONS:
            raise CommandError(13, subscription)
        tickers = self._tickers(params, by_id=subscription.channel is Channel.TICKER)
        if not tickers:
            raise CommandError(14, subscription)
        if action == "get_snapshot":
            if subscription.channel is not Channel.ORDERBOOK_DELTA:
                raise CommandError(13, subscription)
            self._hub.snapshot_to(subscription, tickers, command_id)
        elif action == "add_markets":
            self._merge(subscription, tickers, params, command_id)
        else:
            if subscription.tickers is not None:
                subscription.tickers -= set(tickers)
                self._hub.subscriptions.add(subscription)
            self._ok(subscription, command_id)

    def _unsubscribe(self, params: Params, command_id: int) -> None:
        sids = params.get("sids")
        if not isinstance(sids, list) or not sids:
            raise CommandError(4)
        unknown = [sid for sid in sids if not isinstance(sid, int) or sid not in self.subscriptions]
        if unknown:
            raise CommandError(7)
        for sid in dict.fromkeys(sids):
            subscription = self.subscriptions.pop(sid)
            self._hub.subscriptions.remove(subscription)
            subscription.send("unsubscribed", None, command_id=command_id)

    def _one(self, params: Params) -> Subscription:
        """The one subscription that an update names, by `sid` or a one-element `sids`."""
        sid, sids = params.get("sid"), params.get("sids")
        if sid is None and sids is None:
            raise CommandError(4)
        if sids is not None and (sid is not None or not isinstance(sids, list) or len(sids) != 1):
            raise CommandError(12)
        wanted = sid if sids is None else sids[0]
        if not isinstance(wanted, int) or wanted not in self.subscriptions:
            raise CommandError(7)
        return self.subscriptions[wanted]

    def _tickers(self, params: Params, *, by_id: bool) -> list[str] | None:
        """The markets that params name (at most one of the four ways), or None for all."""
        given = [
            key for key in ("market_ticker", "market_tickers", "market_id", "market_ids") if params.get(key)
        ]
        if not given:
            return None
        value = params[given[0]]
        names = value if isinstance(value, list) else [value]
        if len(given) > 1 or any(not isinstance(name, str) for name in names):
            raise CommandError(11)
        if given[0].startswith("market_id"):
            if not by_id:
                raise CommandError(11)
            return self._hub.tickers_by_id(names)
        return list(dict.fromkeys(names))

    def _show(self, subscription: Subscription, tickers: list[str], params: Params) -> None:
        """What a subscriber sees first: books always, the ticker channel on request."""
        if subscription.channel is Channel.ORDERBOOK_DELTA:
            self._hub.snapshot_to(subscription, tickers)
        elif subscription.channel is Channel.TICKER and params.get("send_initial_snapshot") is True:
            self._hub.tickers_to(subscription, tickers)

    def _ok(self, subscription: Subscription, command_id: int) -> None:
        body: dict[str, Any] = {}
        if subscription.tickers is not None and not subscription.skip_ack_tickers:
            body["market_tickers"] = sorted(subscription.tickers)
        subscription.send("ok", msgspec.json.encode(body), command_id=command_id)

    def _answer_error(self, command_id: int, error: CommandError) -> None:
        body = {"code": error.code, "msg": MESSAGES[error.code]}
        if error.subscription is not None:
            error.subscription.send("error", msgspec.json.encode(body), command_id=command_id)
        else:
            self._reply({**_identity(command_id), "type": "error", "msg": body})


def _command_id(message: Mapping[str, Any]) -> int:
    """The command's id; 0 counts as none. Raises CommandError."""
    command_id = message.get("id", 0)
    if not isinstance(command_id, int) or isinstance(command_id, bool) or command_id < 0:
        raise CommandError(11)
    return command_id


def _identity(command_id: int) -> dict[str, int]:
    return {"id": command_id} if command_id else {}
