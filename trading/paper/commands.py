"""The commands of the stream (API.md 14): subscribe, update_subscription, unsubscribe, list_subscriptions."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from trading.paper import command_params
from trading.paper.command_params import MESSAGES, CommandError, Markets, Params
from trading.paper.hub import Hub
from trading.paper.limits import Bucket
from trading.paper.refusals import Refused
from trading.paper.stream_limits import StreamLimits
from trading.paper.subscriptions import ALL, BY_MARKET, FEEDS, Channel, Feed, Outlet, Subscription

_MARKET_ACTIONS = frozenset({"add_markets", "delete_markets", "get_snapshot"})
Verb = Callable[[Params, int], None]


class Session:
    """The subscriptions of one connection and the commands that change them."""

    def __init__(
        self,
        hub: Hub,
        outlet: Outlet,
        reply: Callable[[dict[str, Any]], None],
        limits: StreamLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._outlet = outlet
        self._reply = reply
        self._limits = limits or StreamLimits()
        self._budget = Bucket(self._limits.commands_a_second, self._limits.commands_a_second, clock)
        self._sids = count(1)
        self._verbs: dict[str, Verb] = {
            "subscribe": self._subscribe,
            "update_subscription": self._update,
            "unsubscribe": self._unsubscribe,
        }
        self.subscriptions: dict[int, Subscription] = {}

    def receive(self, text: str | bytes) -> None:
        """Carry out one command and answer it."""
        command_id = 0
        try:
            message = self._decode(text)
            command_id = command_params.command_id(message)
            self._require_rate(message)
            self._run(message, command_id)
        except CommandError as error:
            self._answer_error(command_id, error)

    def close(self) -> None:
        """The connection is gone."""
        for subscription in self.subscriptions.values():
            self._hub.subscriptions.remove(subscription)
        self.subscriptions.clear()

    def end(self, subscription: Subscription, code: int) -> None:
        """End one subscription with a terminal error (10 or 25): its client must subscribe anew."""
        self.subscriptions.pop(subscription.sid, None)
        self._hub.subscriptions.remove(subscription)
        subscription.send("error", _error_body(code))

    @staticmethod
    def _decode(text: str | bytes) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CommandError(1) from error
        if not isinstance(message, dict):
            raise CommandError(1)
        return message

    def _require_rate(self, message: dict[str, Any]) -> None:
        """Error 27 beyond the command rate, scoped to the subscription that the command is for."""
        try:
            self._budget.take(1)
        except Refused as refused:
            params = message.get("params")
            sid = params.get("sid") if isinstance(params, dict) else None
            scope = self.subscriptions.get(sid) if isinstance(sid, int) else None
            raise CommandError(27, scope) from refused

    def _run(self, message: dict[str, Any], command_id: int) -> None:
        command, params = message.get("cmd"), message.get("params")
        if command == "list_subscriptions":
            listed = [
                {"channel": item.channel.value, "sid": item.sid} for item in self.subscriptions.values()
            ]
            self._reply({**_identity(command_id), "type": "ok", "msg": listed})
            return
        verb = self._verbs.get(command) if isinstance(command, str) else None
        if verb is None:
            raise CommandError(5)
        if not isinstance(params, dict):
            raise CommandError(2)
        verb(params, command_id)

    # Subscribing

    def _subscribe(self, params: Params, command_id: int) -> None:
        """All channels of the command or none: everything is checked before the first is subscribed."""
        wanted = command_params.channels(params)
        named = command_params.markets(params)
        command_params.require_fitting(wanted, named, params)
        tickers = self._tickers(named)
        names = {
            channel: command_params.feed_names(FEEDS[channel], params)
            for channel in wanted
            if channel in FEEDS
        }
        for channel in wanted:
            self._require_room(self._known(channel), command_params.market_filter(channel, tickers) or [])
        for channel in wanted:
            self._subscribe_channel(channel, named, tickers, names.get(channel, []), params, command_id)

    def _subscribe_channel(
        self,
        channel: Channel,
        named: Markets | None,
        tickers: list[str] | None,
        names: list[str],
        params: Params,
        command_id: int,
    ) -> None:
        wanted = command_params.market_filter(channel, tickers)
        known = self._known(channel)
        if known is not None:
            known.names |= set(names)
            self._merge(known, wanted, params, command_id)
            return
        subscription = Subscription(
            next(self._sids),
            channel,
            self._outlet,
            wanted,
            use_yes_price=params.get("use_yes_price") is True,
            skip_ack_tickers=params.get("skip_ticker_ack") is True,
            by_id=named is not None and named.by_id,
            names=names,
        )
        self.subscriptions[subscription.sid] = subscription
        self._hub.subscriptions.add(subscription)
        body = {"channel": channel.value, "sid": subscription.sid}
        self._reply({**_identity(command_id), "type": "subscribed", "msg": body})
        self._show(subscription, wanted or [], params)

    def _merge(
        self, subscription: Subscription, tickers: list[str] | None, params: Params, command_id: int
    ) -> None:
        """Subscribing to a channel again adds markets; without markets it widens to all. The scale of the prices
        stays what it was."""
        fresh: list[str] = []
        if tickers is None:
            subscription.tickers = None
        elif subscription.tickers is not None:
            fresh = [ticker for ticker in tickers if ticker not in subscription.tickers]
            subscription.tickers |= set(fresh)
        self._hub.subscriptions.add(subscription)
        self._ok(subscription, command_id)
        self._show(subscription, fresh, params)

    # Changing

    def _update(self, params: Params, command_id: int) -> None:
        subscription = self._one(params)
        action, feed = params.get("action"), FEEDS.get(subscription.channel)
        if not action:
            raise CommandError(15, subscription)
        if not isinstance(action, str):
            raise CommandError(13, subscription)
        if feed is not None:
            self._update_feed(subscription, feed, action, params, command_id)
        elif action not in _MARKET_ACTIONS or subscription.channel not in BY_MARKET:
            raise CommandError(13, subscription)
        else:
            self._update_markets(subscription, action, params, command_id)

    def _update_markets(
        self, subscription: Subscription, action: str, params: Params, command_id: int
    ) -> None:
        is_book = subscription.channel is Channel.ORDERBOOK_DELTA
        named = self._scoped(subscription, params)
        if action == "get_snapshot" and not is_book:
            raise CommandError(13, subscription)
        if named is None:
            raise CommandError(14, subscription)
        tickers = self._tickers(named) or []
        if action == "get_snapshot":
            self._hub.snapshot_to(subscription, tickers, command_id)
        elif action == "add_markets":
            self._require_room(subscription, tickers)
            self._merge(subscription, tickers, params, command_id)
        else:
            if subscription.tickers is not None:
                self._hub.subscriptions.remove(subscription)
                subscription.tickers -= set(tickers)
                self._hub.subscriptions.add(subscription)
            self._ok(subscription, command_id)

    def _update_feed(
        self, subscription: Subscription, feed: Feed, action: str, params: Params, command_id: int
    ) -> None:
        """The index feeds are silent here: nothing is published, so their lists are empty."""
        if action == feed.show:
            subscription.send(feed.list_type, msgspec.json.encode({feed.names: []}), command_id=command_id)
            return
        if action not in {feed.add, feed.remove}:
            raise CommandError(13, subscription)
        names = command_params.feed_names(feed, params)
        if not names:
            raise CommandError(feed.missing, subscription)
        if action == feed.add:
            subscription.names |= set(names)
        else:
            subscription.names -= set(names)
        shown = [ALL] if ALL in subscription.names else sorted(subscription.names)
        subscription.send("ok", msgspec.json.encode({feed.names: shown}), command_id=command_id)

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

    # Reading params

    def _known(self, channel: Channel) -> Subscription | None:
        return next((item for item in self.subscriptions.values() if item.channel is channel), None)

    def _one(self, params: Params) -> Subscription:
        subscription = self.subscriptions.get(command_params.one_sid(params))
        if subscription is None:
            raise CommandError(7)
        return subscription

    @staticmethod
    def _scoped(subscription: Subscription, params: Params) -> Markets | None:
        """The markets of an update; its errors belong to the subscription."""
        try:
            named = command_params.markets(params)
        except CommandError as error:
            raise CommandError(error.code, subscription) from error
        if named is not None and named.by_id and subscription.channel is not Channel.TICKER:
            raise CommandError(11, subscription)
        return named

    def _tickers(self, named: Markets | None) -> list[str] | None:
        if named is None:
            return None
        return self._hub.tickers_by_id(named.names) if named.by_id else named.names

    def _require_room(self, subscription: Subscription | None, tickers: list[str]) -> None:
        """Error 26 when these markets would exceed what a subscription or the whole session may hold."""
        have = (subscription.tickers if subscription else None) or set()
        fresh = sum(ticker not in have for ticker in tickers)
        held = sum(len(item.tickers or ()) for item in self.subscriptions.values())
        over_all = held + fresh > self._limits.session_markets
        if fresh and (over_all or len(have) + fresh > self._limits.subscription_markets):
            raise CommandError(26, subscription)

    # Answering

    def _show(self, subscription: Subscription, tickers: list[str], params: Params) -> None:
        """What a subscriber sees first: books always, the ticker channel on request."""
        if subscription.channel is Channel.ORDERBOOK_DELTA:
            self._hub.snapshot_to(subscription, tickers)
        elif subscription.channel is Channel.TICKER and params.get("send_initial_snapshot") is True:
            self._hub.tickers_to(subscription, tickers)

    def _ok(self, subscription: Subscription, command_id: int) -> None:
        body: dict[str, Any] = {}
        if subscription.tickers is not None and not subscription.skip_ack_tickers:
            tickers = sorted(subscription.tickers)
            by_id = subscription.by_id
            body = {"market_ids": self._hub.market_ids(tickers)} if by_id else {"market_tickers": tickers}
        subscription.send("ok", msgspec.json.encode(body), command_id=command_id)

    def _answer_error(self, command_id: int, error: CommandError) -> None:
        if error.subscription is not None:
            error.subscription.send("error", _error_body(error.code), command_id=command_id)
            return
        body = {"code": error.code, "msg": MESSAGES[error.code]}
        self._reply({**_identity(command_id), "type": "error", "msg": body})


def _error_body(code: int) -> bytes:
    return msgspec.json.encode({"code": code, "msg": MESSAGES[code]})


def _identity(command_id: int) -> dict[str, int]:
    return {"id": command_id} if command_id else {}
