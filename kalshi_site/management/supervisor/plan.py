"""What is started, in which order, and what each process is given: keys go to those alone that must have them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kalshi_site.env import Settings, demo_urls
from kalshi_site.management.supervisor.children import ChildSpec
from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.readiness import answers_ping, file_written, json_written, serves
from kalshi_site.management.supervisor.redis_servers import RedisServer

# From the caller's environment: what programs need to run, no setting and no secret.
PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"),
    *("VIRTUAL_ENV", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"),
)
SHARED_SETTINGS = (
    *(
        "PAPER_TRADING",
        "DATABASE_URL",
        "DEBUG",
        "TIME_ZONE",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "LIVE_HEARTBEAT_SECONDS",
        "PROPOSAL_TTL_SECONDS",
        "ORDER_LIFETIME_SECONDS",
        "ORDER_EXPIRY_SECONDS",
        "ORDERS_PER_MINUTE",
        "ORDER_GROUP_CONTRACTS",
    ),
    *("ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "KALSHI_CA_FILE", "KALSHI_REDUNDANT_FEED"),
)
LONGEST_MESSAGE = 16_384  # bytes that a page or script may send over the live channel at once
READ = ("KALSHI_READ_KEY_ID", "KALSHI_READ_KEY_FILE")
TRADE = ("KALSHI_TRADE_KEY_ID", "KALSHI_TRADE_KEY_FILE")

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what `up` starts. `paper_port` is None outside the paper profile."""

    layout: Layout
    settings: Settings
    root: Path
    profile: str
    port: int
    paper_port: int | None
    redis: list[RedisServer]

    @property
    def exchange_urls(self) -> tuple[str, str]:
        """REST and WebSocket address of the exchange of this profile."""
        if self.paper_port is not None:
            host = f"127.0.0.1:{self.paper_port}"
            return f"http://{host}/trade-api/v2", f"ws://{host}/trade-api/ws/v2"
        rest, ws = demo_urls()
        return self.settings.text("KALSHI_REST_URL", rest), self.settings.text("KALSHI_WS_URL", ws)

    def runtime(self) -> dict[str, str]:
        """Addresses for commands of a second terminal; no secrets."""
        rest, ws = self.exchange_urls
        live, cache = self.redis
        return {
            "KALSHI_PROFILE": self.profile,
            "PAPER_TRADING": "true",
            "KALSHI_REST_URL": rest,
            "KALSHI_WS_URL": ws,
            "REDIS_URL": live.url,
            "REDIS_CACHE_URL": cache.url,
        }

    def stages(self) -> list[list[ChildSpec]]:
        """In the order of start. Processes of one stage do not need each other."""
        stages = [
            [self._redis(server) for server in self.redis if server.argv],
            [self._paper()] if self.paper_port is not None else [],
            [self._command("feed", "Feed", READ)],
            [self._command("execution", "Execution", READ + TRADE)],
            # Together: none waits for another to start, and one after another they would not stop in time.
            [
                self._command("watchdog", "Watchdog", TRADE),
                *(self._worker("update", READ), self._worker("agent", ()), self._beat(), self._web()),
            ],
        ]
        return [stage for stage in stages if stage]

    def _redis(self, server: RedisServer) -> ChildSpec:
        role = server.name.removeprefix("redis-")
        return ChildSpec(
            name=server.name,
            title=f"Redis {role}",
            argv=server.argv,
            env=_basic,
            cwd=self.root,
            probe=answers_ping(server.socket, server.port, server.detail),
            timeout=20,
        )

    def _paper(self) -> ChildSpec:
        home, ready = self.layout.paper, self.layout.paper / "ready.json"
        argv = [sys.executable, "-m", "trading.paper", "--port", str(self.paper_port), "--home", str(home)]
        return ChildSpec(
            name="paper",
            title="Paper exchange",
            argv=[*argv, *self._world()],
            env=_basic,
            cwd=self.root,
            probe=json_written(ready, _describe_exchange),
            ready_file=ready,
        )

    def _world(self) -> list[str]:
        replay = self.settings.path("KALSHI_PAPER_REPLAY")
        tier = self.settings.text("KALSHI_PAPER_TIER")
        chosen = ["--tier", tier] if tier else []
        if replay is not None:
            return [
                *chosen,
                "--replay",
                str(replay),
                "--speed",
                self.settings.text("KALSHI_PAPER_SPEED", "1"),
            ]
        seed = self.settings.text("KALSHI_PAPER_SEED")
        return [*chosen, "--simulate", *(["--seed", seed] if seed else [])]

    def _command(self, name: str, title: str, keys: tuple[str, ...]) -> ChildSpec:
        return self._django(name, title, [sys.executable, "manage.py", name], keys)

    def _worker(self, queue: str, keys: tuple[str, ...]) -> ChildSpec:
        # One child each: a task of the loops never runs beside itself, and a leaking child is replaced.
        argv = [sys.executable, "-m", "celery", "--app", "kalshi_site.celery", "--quiet", "worker"]
        argv += [
            "--queues",
            queue,
            "--hostname",
            f"{queue}@desk",
            "--concurrency",
            "1",
            "--loglevel",
            "WARNING",
        ]
        argv += ["--without-gossip", "--without-mingle"]
        return self._django(queue, f"Worker {queue}", argv, keys)

    def _beat(self) -> ChildSpec:
        argv = [sys.executable, "-m", "celery", "--app", "kalshi_site.celery", "--quiet", "beat"]
        argv += ["--schedule", str(self.layout.run / "beat-schedule"), "--pidfile=", "--loglevel", "WARNING"]
        return self._django("beat", "Schedule", argv, ())

    def _web(self) -> ChildSpec:
        argv = [sys.executable, "-m", "daphne", "--bind", "127.0.0.1", "--port", str(self.port)]
        argv += [
            "--verbosity",
            "0",
            "--no-server-name",
            "--application-close-timeout",
            "1",
            "--websocket-max-message-size",
            str(LONGEST_MESSAGE),
            "kalshi_site.asgi:application",
        ]
        return ChildSpec(
            name="web",
            title="Web",
            argv=argv,
            env=lambda: self.environment("web", ()),
            cwd=self.root,
            probe=serves(self.port, "/livez", "/readyz"),
        )

    def _django(self, name: str, title: str, argv: list[str], keys: tuple[str, ...]) -> ChildSpec:
        ready = self.layout.ready_file(name)
        return ChildSpec(
            name=name,
            title=title,
            argv=argv,
            env=lambda: self.environment(name, keys),
            cwd=self.root,
            probe=file_written(ready),
            ready_file=ready,
        )

    def environment(self, name: str, keys: tuple[str, ...] = ()) -> Environment:
        """The whole environment of the process `name`, with the key settings named by `keys` and no other."""
        shared = {key: self.settings.text(key) for key in SHARED_SETTINGS if self.settings.stated(key)}
        given = {key: value for key, value in self._key_settings().items() if key in keys}
        return {
            **_basic(),
            **shared,
            **self.runtime(),
            **self._secrets(name),
            **given,
            "DJANGO_SETTINGS_MODULE": "kalshi_site.settings",
            "KALSHI_ENV_FILE": "",
            "KALSHI_PROCESS": name,
            "KALSHI_READY_FILE": str(self.layout.ready_file(name)),
            "KALSHI_STATIC_MANIFEST": "true" if name in {"web", "collectstatic"} else "false",
            "PROMETHEUS_MULTIPROC_DIR": str(self.layout.run / "metrics"),
            "VAR_DIR": str(self.layout.var),
        }

    def _secrets(self, name: str) -> Environment:
        secret = self.settings.text("SECRET_KEY")
        given = {"SECRET_KEY": secret} if secret else {"SECRET_KEY_FILE": str(self.layout.secret_key)}
        token = self.settings.text("METRICS_TOKEN")
        return {**given, "METRICS_TOKEN": token} if name == "web" and token else given

    def _key_settings(self) -> Environment:
        if self.paper_port is not None:
            return paper_keys(self.layout.paper)
        return {name: self.settings.text(name) for name in READ + TRADE if self.settings.text(name)}


def paper_keys(home: Path) -> Environment:
    """The desk's two keys at the paper exchange, from the accounts it made. Empty before its first start."""
    try:
        accounts = json.loads((home / "accounts.json").read_text(encoding="utf-8"))["accounts"]
    except (OSError, ValueError, KeyError):
        return {}
    keys = [key for account in accounts if account["account_id"] == "desk" for key in account["keys"]]
    read = next((key for key in keys if key["scopes"] == ["read"]), None)
    trade = next((key for key in keys if "write::trade" in key["scopes"]), None)
    return {**_key(READ, read, home), **_key(TRADE, trade, home)}


def _key(names: tuple[str, ...], key: dict[str, Any] | None, home: Path) -> Environment:
    if key is None:
        return {}
    return dict(zip(names, (key["key_id"], str(home / key["key_file"])), strict=True))


def _basic() -> Environment:
    found = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {**found, "PYTHONUNBUFFERED": "1"}


def _describe_exchange(ready: dict[str, object]) -> str:
    return str(ready.get("rest_url", ""))
