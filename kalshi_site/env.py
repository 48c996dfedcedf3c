"""Settings from the environment and `.env`: typed, validated, loud.

The process environment wins over `.env`. `X_FILE` names a file that holds X. What is read from `.env` stays in this
object and never enters `os.environ`, so that a child process gets only what it is given.

    ConfigError        E951 missing, E952 key file, E953 unknown, unreadable or contradictory, E954 live is not offered
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import environ

# Every setting we read, with the words of `.env.template`. A name that is not here is refused (E953).
KNOWN: Final = frozenset(
    """
    PAPER_TRADING KALSHI_PROFILE KALSHI_REST_URL KALSHI_WS_URL
    KALSHI_READ_KEY_ID KALSHI_READ_KEY_FILE KALSHI_TRADE_KEY_ID KALSHI_TRADE_KEY_FILE KALSHI_CA_FILE
    DATABASE_URL REDIS_URL REDIS_CACHE_URL SECRET_KEY METRICS_TOKEN
    VAR_DIR ALLOWED_HOSTS CSRF_TRUSTED_ORIGINS DEBUG TIME_ZONE LOG_LEVEL LOG_FORMAT
    PROPOSAL_TTL_SECONDS ORDER_LIFETIME_SECONDS ORDER_EXPIRY_SECONDS ORDERS_PER_MINUTE ORDER_GROUP_CONTRACTS
    PORT LIVE_HEARTBEAT_SECONDS KALSHI_REDIS KALSHI_REDUNDANT_FEED
    KALSHI_PAPER_SEED KALSHI_PAPER_SPEED KALSHI_PAPER_REPLAY KALSHI_PAPER_TIER
    KALSHI_RECORDINGS KALSHI_CAPTURES KALSHI_CONTRACT_DIR E2E_CHROMIUM
    """.split()
)
# Set by the supervisor and the test suite for their children; not for people.
INTERNAL: Final = frozenset(
    "KALSHI_PROCESS KALSHI_ENV_FILE KALSHI_READY_FILE KALSHI_REDIS_KIND KALSHI_STATIC_MANIFEST".split()
)
# What a running supervisor tells commands of a second terminal.
RUNTIME: Final = ("KALSHI_REST_URL", "KALSHI_WS_URL", "REDIS_URL", "REDIS_CACHE_URL")
SECRETS: Final = frozenset({"DATABASE_URL", "REDIS_URL", "REDIS_CACHE_URL", "SECRET_KEY", "METRICS_TOKEN"})
OUR_PREFIXES: Final = ("KALSHI_", "PAPER_", "PROPOSAL_", "ORDER_", "ORDERS_")
PROFILES: Final = ("paper", "demo", "live")
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# API.md 2: both pairs are served; the first is the one Kalshi recommends.
DEMO_HOSTS: Final = (
    ("external-api.demo.kalshi.co", "external-api-ws.demo.kalshi.co"),
    ("demo-api.kalshi.co", "demo-api.kalshi.co"),
)
_DOTENV_NAME = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of the configuration: what is wrong (`text`) and what to do (`hint`)."""

    code: str
    text: str
    hint: str = "Compare with .env.template."

    def __str__(self) -> str:
        return f"{self.code} {self.text} {self.hint}"


class ConfigError(Exception):
    """The configuration cannot be used. `problems` says why, each with its code."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class Settings:
    """Reads one merged view of process environment, `.env` and defaults. Raises ConfigError on what it cannot read."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        dotenv: Path | None = None,
        fallback: Mapping[str, str] | None = None,
    ) -> None:
        self.process = dict(os.environ if environment is None else environment)
        self.dotenv = _read_dotenv(dotenv)
        self.merged = {**(fallback or {}), **self.dotenv, **_stated(self.process)}
        self._env = environ.FileAwareEnv()
        self._env.ENVIRON = environ.fileaware_mapping.FileAwareMapping(env=self.merged)

    def text(self, name: str, default: str = "") -> str:
        """The setting as text without surrounding space; `default` when it is not set or empty."""
        try:
            value = self._env.str(name, default=default).strip()
        except OSError as error:
            raise ConfigError(
                Problem("E952", f"{name}_FILE cannot be read: {error.strerror}.", "Correct the path.")
            ) from error
        return str(value) or default

    def flag(self, name: str, *, default: bool) -> bool:
        """True for true/yes/on/1, False for false/no/off/0. Anything else is refused."""
        value = self.text(name).lower()
        if not value:
            return default
        if value in {"1", "true", "yes", "on"}:
            return True
        if value in {"0", "false", "no", "off"}:
            return False
        raise self._unreadable(name, "true or false")

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        value = self.text(name)
        if not value:
            return default
        if not re.fullmatch(r"[+-]?\d{1,18}", value) or not low <= int(value) <= high:
            raise self._unreadable(name, f"a whole number from {low} to {high}")
        return int(value)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of `allowed`, in lower case."""
        value = self.text(name, default).lower()
        if value not in allowed:
            raise self._unreadable(name, " or ".join(allowed))
        return value

    def names(self, name: str, default: tuple[str, ...] = ()) -> list[str]:
        """A list separated by commas."""
        return [part.strip() for part in self.text(name).split(",") if part.strip()] or list(default)

    def path(self, name: str) -> Path | None:
        """A path with `~` opened, or None."""
        value = self.text(name)
        return Path(value).expanduser() if value else None

    def database(self, default: Path) -> dict[str, Any]:
        """Django's database entry: DATABASE_URL (postgres://…, sqlite:///…), else SQLite at `default`."""
        if not self.text("DATABASE_URL"):
            return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(default)}
        try:
            entry = dict(self._env.db_url("DATABASE_URL"))
        except (environ.ImproperlyConfigured, ValueError) as error:
            raise self._unreadable("DATABASE_URL", "a database address") from error
        if entry.get("ENGINE") not in {"django.db.backends.sqlite3", "django.db.backends.postgresql"}:
            raise self._unreadable("DATABASE_URL", "postgres://… or sqlite:///…")
        return entry

    def stated(self, name: str) -> bool:
        """Whether somebody set it, in the environment or in `.env`."""
        return bool(self.merged.get(name) or self.merged.get(f"{name}_FILE"))

    def problems(self) -> list[Problem]:
        """Every fault that can be seen without touching database, Redis or the exchange."""
        return [*self._unknown(), *self._contradictions(), *self._key_files(), *self._authorities()]

    def _unknown(self) -> list[Problem]:
        process = {name for name in self.process if name.startswith(OUR_PREFIXES)}
        known = KNOWN | INTERNAL | {f"{name}_FILE" for name in SECRETS}
        unknown = sorted((process | set(self.dotenv)) - known)
        return [Problem("E953", f"{name} is not a setting of this product.") for name in unknown]

    def _contradictions(self) -> list[Problem]:
        profile = self.choice("KALSHI_PROFILE", "paper", PROFILES)
        paper = self.flag("PAPER_TRADING", default=True)
        if profile == "live":
            return [
                Problem(
                    "E954",
                    "KALSHI_PROFILE=live is not offered by this release; nothing was started.",
                    "Use paper or demo.",
                )
            ]
        found = []
        if profile == "paper" and not paper and self.stated("KALSHI_PROFILE"):
            found.append(
                Problem(
                    "E953", "PAPER_TRADING=false contradicts KALSHI_PROFILE=paper.", "Remove one of them."
                )
            )
        for name, allowed in zip(("KALSHI_REST_URL", "KALSHI_WS_URL"), _allowed_hosts(profile), strict=True):
            found += self._wrong_host(name, profile, allowed)
        return found

    def _wrong_host(self, name: str, profile: str, allowed: frozenset[str]) -> list[Problem]:
        url = self.text(name)
        if not url:
            return []
        parts = urlsplit(url)
        secure = parts.scheme in {"https", "wss"} or parts.hostname in LOOPBACK
        if parts.hostname in allowed and secure:
            return []
        return [Problem("E953", f"{name} ({parts.hostname}) does not belong to the profile {profile}.")]

    def _key_files(self) -> list[Problem]:
        found = []
        for kind in ("READ", "TRADE"):
            key_id, key_file = self.text(f"KALSHI_{kind}_KEY_ID"), self.path(f"KALSHI_{kind}_KEY_FILE")
            if bool(key_id) != bool(key_file):
                found.append(
                    Problem(
                        "E951",
                        f"KALSHI_{kind}_KEY_ID and KALSHI_{kind}_KEY_FILE belong together.",
                        "Set both.",
                    )
                )
            if key_file:
                found += key_file_problems(f"KALSHI_{kind}_KEY_FILE", key_file)
        return found

    def _authorities(self) -> list[Problem]:
        path = self.path("KALSHI_CA_FILE")
        if path is None or (path.is_file() and os.access(path, os.R_OK)):
            return []
        return [Problem("E952", f"KALSHI_CA_FILE: {path} is not a readable file.", "Correct the path.")]

    def _unreadable(self, name: str, wanted: str) -> ConfigError:
        # The value itself is not shown: it may be a secret in the wrong place.
        return ConfigError(Problem("E953", f"{name} must be {wanted}."))


def key_file_problems(name: str, path: Path) -> list[Problem]:
    """What keeps a private key file from being used: absent, not a file, unreadable, or open to others (E952)."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return [Problem("E952", f"{name}: {path} is missing.", "Correct the path.")]
    if not stat.S_ISREG(mode) or not os.access(path, os.R_OK):
        return [Problem("E952", f"{name}: {path} is not a readable file.", "Correct the path or its owner.")]
    if mode & 0o077:
        return [Problem("E952", f"{name}: {path} is open to other users.", f"Run: chmod 600 '{path}'")]
    return []


def demo_urls() -> tuple[str, str]:
    """REST and WebSocket address of the exchange's demo environment (API.md 2)."""
    rest, ws = DEMO_HOSTS[0]
    return f"https://{rest}/trade-api/v2", f"wss://{ws}/trade-api/ws/v2"


def broker_url(redis_url: str) -> str:
    """The same Redis in the words of Celery's transport: it names Unix sockets differently than redis-py."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    number = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.path}?virtual_host={number}"


def _allowed_hosts(profile: str) -> tuple[frozenset[str], frozenset[str]]:
    if profile == "paper":
        return LOOPBACK, LOOPBACK
    rest, ws = zip(*DEMO_HOSTS, strict=True)
    # Loopback lets the suite stand in for the demo environment.
    return frozenset(rest) | LOOPBACK, frozenset(ws) | LOOPBACK


def _stated(environment: Mapping[str, str]) -> dict[str, str]:
    names = KNOWN | INTERNAL | {f"{name}_FILE" for name in SECRETS}
    return {name: value for name, value in environment.items() if name in names and value.strip()}


def _read_dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    names = set(_DOTENV_NAME.findall(path.read_text(encoding="utf-8")))
    values: dict[str, str] = {}
    reader: Any = type("_Dotenv", (environ.Env,), {"ENVIRON": values})
    reader.read_env(str(path), parse_comments=True)
    return {name: str(values.get(name, "")) for name in names}
