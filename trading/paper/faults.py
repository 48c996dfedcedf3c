"""Faults on demand, for tests of the client and of execution. Without `--faults` none of this is reachable.

`POST /__faults {"endpoint": "create", "kind": "drop_after", "times": 1}` plans faults; `DELETE` forgets them;
`GET` lists them.

    kind            before accepting        after accepting (the journal has it)
    drop            drop_before             drop_after           the connection ends without an answer
    delay           delay_before            delay_after          `seconds`, then go on
    error           error_before            error_after          answer `status` (500)
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import msgspec

from trading.paper.refusals import nested

Endpoint = Literal["create", "cancel", "cancel_all"]
Kind = Literal["drop_before", "drop_after", "delay_before", "delay_after", "error_before", "error_after"]


class Fault(msgspec.Struct):
    """One planned fault; happens `times` times, then is forgotten."""

    endpoint: Endpoint
    kind: Kind
    times: Annotated[int, msgspec.Meta(ge=1)] = 1
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 500


class Dropped(Exception):
    """End the connection without an answer."""


class Faults:
    """Planned faults, oldest first."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []

    def plan(self, fault: Fault) -> None:
        self.planned.append(fault)

    async def before(self, endpoint: Endpoint) -> None:
        """The moment before a request is looked at. Raises Dropped or Refused."""
        await self._happen(endpoint, "before")

    async def after(self, endpoint: Endpoint) -> None:
        """The moment when the change is durable but not yet answered. Raises Dropped or Refused."""
        await self._happen(endpoint, "after")

    async def _happen(self, endpoint: Endpoint, moment: str) -> None:
        fault = next((f for f in self.planned if f.endpoint == endpoint and f.kind.endswith(moment)), None)
        if fault is None:
            return
        fault.times -= 1
        if fault.times == 0:
            self.planned.remove(fault)
        if fault.kind.startswith("drop"):
            raise Dropped
        if fault.kind.startswith("error"):
            raise nested(fault.status, "service_unavailable", "planned fault")
        await asyncio.sleep(fault.seconds)
