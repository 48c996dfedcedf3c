"""What a caller asks of a circuit breaker; the desk's own stands in `kalshi_site.breakers`."""

from __future__ import annotations

from typing import Protocol


class Breaker(Protocol):
    """Guards the calls to one dependency. None of its methods raises."""

    def allows(self) -> bool:
        """Whether a call may go out now. A yes while the dependency is on trial is the one probe: make the call, or
        say that it is unused.
        """
        ...

    def unused(self) -> None:
        """The call that was allowed did not go out, for a reason of our own."""
        ...

    def succeeded(self) -> None:
        """The dependency answered, whatever it answered."""
        ...

    def failed(self, reason: str) -> None:
        """There was no answer, or one that says that the dependency itself is broken."""
        ...


class NoBreaker:
    """Lets everything pass and counts nothing."""

    def allows(self) -> bool:
        return True

    def unused(self) -> None: ...

    def succeeded(self) -> None: ...

    def failed(self, reason: str) -> None: ...
