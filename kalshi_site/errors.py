"""Every error code in one registry, and the base class of expected refusals.

The registry makes the problem documents, `docs/reference/errors.md` and the enum of the API's schema. Exceptions
of the domain cannot import this module; they carry a class attribute `code`, by which `kind_of` finds their entry.
E400-E599 stay unused, so that a code is never mistaken for an HTTP status (UX.md 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

UNEXPECTED = "E901"


class Severity(StrEnum):
    """`info` is the caller's to mend, `warning` the operator should see, `error` the operator must mend."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What the reader sees (`title`), what the transport answers (`status`), what to do (`recovery`)."""

    code: str
    title: str
    status: int
    recovery: str
    retryable: bool = False
    severity: Severity = Severity.INFO


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of a request: a JSON pointer to the place, a code of the registry, a sentence."""

    pointer: str
    code: str
    detail: str


class DeskError(Exception):
    """An expected refusal: `code`, a `detail` fit for the page, and the `numbers` behind it.

    Rooms subclass it and set `code`; an instance may carry another where one class gathers several refusals.
    `current` is the object as it stands now, for answers to a stale version; transports fill it in.
    """

    code: str = UNEXPECTED

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        current: Mapping[str, object] | None = None,
        **numbers: object,
    ) -> None:
        if code is not None:
            self.code = code
        self.detail = detail or kind_of(self).title
        self.errors = tuple(errors)
        self.current = current
        self.numbers = dict(numbers)
        super().__init__(self.detail)


class NotSignedIn(DeskError):
    """No credentials, or a token that is unknown, expired or revoked."""

    code = "E101"


class ScopeMissing(DeskError):
    """The token is good but was not issued for this."""

    code = "E103"


class RoleMissing(DeskError):
    """The person's role does not allow this."""

    code = "E104"


class NotFound(DeskError):
    """There is no such object, or not for this person."""

    code = "E021"


class UnknownTicker(DeskError):
    """No market has this ticker."""

    code = "E020"


# code | HTTP status | severity | retry: the same request may succeed later | title | recovery
# `##` begins a section of the reference page.
_TABLE = """
## Request and validation
E001 | 400 | info | - | The request cannot be read | Send well-formed JSON in UTF-8.
E002 | 415 | info | - | This media type is not supported | Send Content-Type: application/json.
E003 | 405 | info | - | This method is not allowed here | Use a method from the Allow header.
E004 | 404 | info | - | There is no such address | Compare the path with /api/docs (no trailing slash).
E005 | 406 | info | - | This form of answer is not available | Ask for application/json.
E010 | 422 | info | - | A field is missing | Add the field named by the pointer.
E011 | 422 | info | - | A value cannot be read | Send the type shown in /api/docs; money and counts as strings.
E012 | 422 | info | - | A value is out of range | Choose a value inside the range.
E013 | 422 | info | - | A field is not known | Leave out what /api/docs does not list.
E014 | 422 | info | - | The price is off the market's grid | Use one of the nearest allowed prices.
E015 | 400 | info | - | The cursor is not ours | Start again without a cursor.
E020 | 404 | info | - | No market has this ticker | Look the ticker up with GET /api/v1/markets.
E021 | 404 | info | - | There is no such object | Compare the id with the list.
## Identity, rights, rate
E101 | 401 | info | - | You are not signed in | Send a valid token: Authorization: Bearer kops_...
E102 | 401 | info | - | Sign-in failed | Check the name and the password.
E103 | 403 | info | - | The token's scope does not cover this | Use a token with the scope in the detail.
E104 | 403 | info | - | Your role does not allow this | Ask an administrator for a role in the detail.
E105 | 403 | info | - | A second factor is needed | Confirm with your second factor and repeat.
E106 | 403 | info | - | The form is too old | Reload the page and send it again.
E107 | 403 | info | - | The proposer cannot approve | Another person has to decide this proposal.
E108 | 429 | info | retry | Too many requests | Wait for the seconds in Retry-After.
E110 | 410 | info | - | The sign-in link is spent or expired | Sign in by password or start the desk again.
## State and concurrency
E203 | 428 | info | - | A precondition is required | Send If-Match: "v<version>" with the version you saw.
E204 | 412 | info | - | This has changed since you saw it | Look at the current state and decide again.
E205 | 400 | info | - | An idempotency key is required | Send a fresh Idempotency-Key of 1 to 128 characters.
E206 | 422 | info | - | The idempotency key is another request's | Use a fresh key for each new request.
E207 | 409 | info | retry | The first request with this key still runs | Repeat it unchanged after Retry-After.
E208 | 412 | error | - | The terms are not those that you saw | Look at the proposal again; tell the operator.
E210 | 409 | info | - | The deadline has passed | Nothing was traded. Wait for a new proposal.
E211 | 409 | info | - | You have already decided this | Another person has to decide.
E212 | 409 | info | - | This is not possible in the present state | Look at the current state.
## Risk and trading state
E301 | 409 | info | - | A limit does not allow this | Choose a smaller quantity or have the limit changed.
E302 | 409 | warning | - | A check could not be made | No verdict is a no: look at the detail.
E305 | 409 | warning | - | Trading is paused | Only exits pass. Resume trading first.
E306 | 409 | warning | - | Trading is stopped | Find out why it was stopped, then resume.
E307 | 409 | info | - | The order would not reduce the position | While trading is paused only exits pass.
E308 | 409 | warning | - | Something stands against resuming | Deal with what the detail names, then resume.
E309 | 409 | info | - | A second person must wish it too | Ask a colleague to do the same within 15 minutes.
E310 | 409 | info | - | The price has moved | Look at the new price and decide again.
E311 | 409 | info | - | The market is not open for trading | Wait until the market is active.
E312 | 409 | warning | retry | The data is too old to trade on | Wait until the feed is live again.
E313 | 409 | warning | - | The fee cannot be computed | Trade another market; what is held in this one can be sold.
E314 | 409 | info | - | The autonomy level does not allow this | Raise the level under Risk, with a reason.
E315 | 409 | warning | - | An order group has tripped | Find out why, manage.py trade reset --reason WHY, then resume.
E316 | 409 | warning | - | Too many orders in a minute | Find out which strategy runs away, then resume.
## Exchange
E601 | 503 | warning | retry | The exchange cannot be reached | Wait; the desk tries again by itself.
E602 | 503 | warning | retry | The exchange limits our rate | Wait; the desk slows down by itself.
E603 | 409 | warning | - | The exchange rejected this | Read the exchange's reason in the detail.
E604 | 502 | error | - | The exchange refused our key | Check key id, key file and scopes; run make doctor.
E605 | 503 | warning | retry | A breaker is open after failures in a row | Wait for its probe, or reset it at /health.
E606 | 502 | error | - | The exchange's answer is not as agreed | Look at /health: it names the field and what to do.
E607 | 503 | warning | retry | The exchange is not trading | Wait until the exchange opens.
E608 | 404 | warning | - | The exchange does not know this | Let reconciliation compare our records.
E609 | 503 | warning | retry | The exchange's stream broke off | Wait; the desk connects again by itself.
E610 | 409 | error | - | The outcome is not known yet | Do not repeat it: reconciliation asks the exchange.
E611 | 503 | error | retry | Our clock is not the exchange's | Set the machine's clock (NTP); exits and cancels go on.
E612 | 502 | error | - | Who answers did not prove to be the exchange | Nothing was sent: make doctor ARGS=--exchange.
E613 | 409 | error | - | Our records differ from the exchange's | Look at /reconciliation: each item says what to do.
## Agent
E701 | 503 | warning | retry | The analyst failed | Nothing is proposed; the next cycle tries again.
E702 | 502 | warning | - | The analyst's answer is not valid | Nothing is proposed; look at the run.
E703 | 429 | warning | - | The analyst's budget is used | Wait for the next period or raise the budget.
E704 | 502 | warning | retry | A tool of the analyst failed | Look at the run; the next cycle tries again.
## Data, live channel, notify
E801 | 503 | warning | retry | The database is busy | Repeat with the same key.
E802 | 500 | error | - | The database refused inconsistent data | Report the request id; nothing was stored.
E803 | 503 | error | - | The database needs a migration | Run make run: it copies the database, then migrates it.
E805 | 503 | error | - | The database is not in WAL mode, or its SQLite is too old | Run make doctor.
E806 | 503 | error | - | The database does not guard its facts | Run manage.py migrate: it makes the guards anew.
E807 | 409 | error | - | This build may not send orders | Start that, or: manage.py trade accept-build --reason WHY.
E851 | 503 | info | retry | The reader is too slow | Connect again and resume.
E852 | 409 | info | retry | A message is missing | Take a new snapshot.
E853 | 429 | info | retry | Too many messages | Send fewer than 100 messages a second.
## Recordings
E871 | 404 | info | - | There is no recording of this market | Compare the folder and the ticker.
E872 | 409 | info | - | The recording does not tell the book at that time | Choose another time; see recordings verify.
E873 | 503 | info | retry | The recording changes while it is read | Try again when the recorder is done with it.
E874 | 503 | error | - | Nothing more can be recorded | Make room or name another folder, then start it again.
E875 | 409 | info | - | More markets than one recorder follows | Choose with --series or --market.
## Internal and configuration
E901 | 500 | error | - | Something unexpected happened | Report the request id; it stands in the log.
E902 | 503 | error | retry | A part of the desk is not running | Look at make status.
E951 | 500 | error | - | A setting is missing | Set it as .env.template describes.
E952 | 500 | error | - | A key file is missing, unreadable or open to others | chmod 600 the file.
E953 | 500 | error | - | A setting is unknown or contradicts another | Compare with .env.template.
E954 | 500 | error | - | Live trading is not offered by this release | Use the paper or the demo profile.
"""


def _registry() -> Mapping[str, ErrorKind]:
    """Read the table. Raises ValueError when a code stands in it twice."""
    registry: dict[str, ErrorKind] = {}
    for line in _TABLE.strip().splitlines():
        if line.startswith("#"):
            continue
        code, status, severity, retry, title, recovery = (cell.strip() for cell in line.split(" | "))
        if code in registry:
            raise ValueError(f"{code} stands twice in the registry")
        registry[code] = ErrorKind(code, title, int(status), recovery, retry == "retry", Severity(severity))
    return MappingProxyType(registry)


REGISTRY: Mapping[str, ErrorKind] = _registry()


def kind_of(error: BaseException) -> ErrorKind:
    """The registry's entry for an exception, by its attribute `code`; E901 for all others."""
    code = getattr(error, "code", UNEXPECTED)
    return REGISTRY.get(code, REGISTRY[UNEXPECTED]) if isinstance(code, str) else REGISTRY[UNEXPECTED]


def as_markdown() -> str:
    """The reference page `docs/reference/errors.md`."""
    lines = [
        "# Errors",
        "",
        "Made from `kalshi_site/errors.py` by `manage.py errors --write`; a test fails when it is not current.",
        "E400 to E599 stay unused, so that a code is never mistaken for an HTTP status.",
    ]
    for line in _TABLE.strip().splitlines():
        if line.startswith("#"):
            lines += [
                "",
                line,
                "",
                "| Code | HTTP | Retry | What happened | What to do |",
                "|---|---|---|---|---|",
            ]
            continue
        kind = REGISTRY[line[:4]]
        again = "yes" if kind.retryable else "no"
        lines.append(f"| {kind.code} | {kind.status} | {again} | {kind.title} | {kind.recovery} |")
    return "\n".join(lines) + "\n"
