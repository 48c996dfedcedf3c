"""What one connection of the stream may cost (API.md 14, "Limits")."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """The cap per subscription and the buffer are not published: ours are generous, and tests set their own."""

    connections: int = 200
    session_markets: int = 500_000
    subscription_markets: int = 100_000
    commands_a_second: int = 10_000
    buffer_bytes: int = 8 * 1024 * 1024
