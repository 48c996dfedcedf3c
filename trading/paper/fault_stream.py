"""Planned faults that need no request (`--faults` only): frames lost, doubled, out of order; connections that end or
hush; reads that fall behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta

from trading.paper.fault_bodies import EDITS, edited
from trading.paper.faults import Dropped, Fault, Faults, Row, Sent, fits_frame
from trading.paper.service import Connection, Service
from trading.paper.subscriptions import Subscription

CHANNEL_ERROR = 10


def require_acceptance(faults: Faults) -> None:
    """Raises Dropped while no connection is accepted."""
    if asyncio.get_running_loop().time() < faults.refusing_until:
        raise Dropped


def act_now(row: Row, service: Service) -> None:
    """Do at once what a row of a `now` kind says."""
    act = _ACTS.get(row.fault.kind)
    if act is not None:
        row.happened += 1
        act(row.fault, service)


def _until(fault: Fault) -> float:
    return asyncio.get_running_loop().time() + fault.seconds


def _refuse_connections(fault: Fault, service: Service) -> None:
    service.faults.refusing_until = _until(fault)


def _be_silent(fault: Fault, service: Service) -> None:
    service.faults.silent_until = _until(fault)


def _disconnect(fault: Fault, service: Service) -> None:
    _refuse_connections(fault, service)
    for connection in list(service.connections.values()):
        connection.cut()


def _end_subscriptions(fault: Fault, service: Service) -> None:
    for connection, subscription in list(_subscriptions(service)):
        if fits_frame(fault, Sent(subscription.channel, fault.frame, _markets(fault, subscription))):
            connection.session.end(subscription, CHANNEL_ERROR)


def _fall_behind(fault: Fault, service: Service) -> None:
    if service.faults.usual_lag is None:
        service.faults.usual_lag = service.lag.lag
    service.lag = service.lag.changed(timedelta(seconds=fault.seconds))


_ACTS: dict[str, Callable[[Fault, Service], None]] = {
    "refuse_connections": _refuse_connections,
    "silence": _be_silent,
    "disconnect": _disconnect,
    "channel_error": _end_subscriptions,
    "read_lag": _fall_behind,
}


def forget(service: Service) -> None:
    """No more faults, also none that last."""
    service.faults.forget()
    if service.faults.usual_lag is not None:
        service.lag = service.lag.changed(service.faults.usual_lag)
        service.faults.usual_lag = None


class Tampering:
    """What becomes of the frames of one connection."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._held: dict[int, bytes] = {}

    @property
    def is_silent(self) -> bool:
        """Whether nothing at all may be sent now."""
        return asyncio.get_running_loop().time() < self._faults.silent_until

    def passed(self, subscription: Subscription, kind: str, frame: bytes) -> list[bytes]:
        """The frames to be sent in place of this one. Raises Dropped when the connection shall end."""
        fault = self._faults.on_frame(Sent(subscription.channel, kind, frame))
        if fault is not None and fault.kind == "swap_frames":
            earlier = self._released(subscription)
            self._held[subscription.sid] = frame
            return earlier
        shown = [frame] if fault is None else list(self._changed(fault, subscription, frame))
        return [*shown, *self._released(subscription)]

    def _released(self, subscription: Subscription) -> list[bytes]:
        held = self._held.pop(subscription.sid, None)
        return [] if held is None else [held]

    @staticmethod
    def _changed(fault: Fault, subscription: Subscription, frame: bytes) -> Iterator[bytes]:
        match fault.kind:
            case "drop_frame":
                return
            case "duplicate_frame":
                yield from (frame, frame)
            case "skip_seq":
                subscription.skip_number()
                yield frame
            case "cut_connection":
                raise Dropped
            case _:
                yield edited(fault, frame) if fault.kind in EDITS else frame


def _subscriptions(service: Service) -> Iterator[tuple[Connection, Subscription]]:
    for connection in service.connections.values():
        for subscription in connection.session.subscriptions.values():
            yield connection, subscription


def _markets(fault: Fault, subscription: Subscription) -> bytes:
    """The subscription's markets in the place of a body: a row may name one."""
    named = subscription.tickers is None or fault.market in subscription.tickers
    return f'"{fault.market}"'.encode() if named else b""
