"""`manage.py doctor --exchange` against a second paper exchange that plays the demo over TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from kalshi_site.env import Problem
from kalshi_site.management.supervisor.connection import (
    Connection,
    KeySetting,
    _read_scopes,
    _trade_scopes,
)
from kalshi_site.management.supervisor.findings import Finding
from tests.authorities import Authority
from tests.exchanges import ROOT, PaperExchange, paper_exchange
from trading.exchange import tls
from trading.exchange.account_reports import ApiKeyReport
from trading.exchange.link import Link
from trading.exchange.venue_clock import VenueClock, wall_clock_ms

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def exchange(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    with playing_demo(tmp_path_factory.mktemp("demo"), authority.issue()) as running:
        yield running


@pytest.fixture(autouse=True)
def trusted(authority: Authority) -> Iterator[None]:
    tls.trust_also(authority.file)
    yield
    tls.trust_also(None)


def playing_demo(home: Path, cert: tuple[Path, Path]) -> AbstractContextManager[PaperExchange]:
    return paper_exchange(home, "--identity", "demo", "--tls-cert", str(cert[0]), "--tls-key", str(cert[1]))


def connection(exchange: PaperExchange, **changes: object) -> Connection:
    read, trade = exchange.key("desk-read"), exchange.key("desk-trade")
    usual: dict[str, object] = {
        "profile": "demo",
        "rest_url": exchange.rest_url,
        "ws_url": exchange.ws_url,
        "read": KeySetting("read", *read),
        "trade": KeySetting("trade", *trade),
    }
    return Connection(**(usual | changes))  # type: ignore[arg-type]


def examined(exchange: PaperExchange, **changes: object) -> dict[str, Finding]:
    return {finding.name: finding for finding in connection(exchange, **changes).examine()}


def failures(found: dict[str, Finding]) -> dict[str, str]:
    return {name: each.detail for name, each in found.items() if each.verdict == "failure"}


def test_a_sound_connection_is_green_and_says_what_it_saw(exchange: PaperExchange) -> None:
    found = examined(exchange)
    assert failures(found) == {}
    assert "certificate is verified" in found["Address"].detail
    assert found["Clock"].verdict == "ok"
    assert found["Reading key"].detail == "accepted; it may read"
    assert "write::trade" in found["Trading key"].detail
    assert found["Rate limits"].detail.startswith("tier advanced: 300 read tokens a second")
    assert found["Stream"].detail == "handshake accepted"
    assert "Maintenance" in found


def test_an_unknown_authority_stops_everything_before_a_key_is_used(exchange: PaperExchange) -> None:
    tls.trust_also(None)
    found = examined(exchange)
    assert list(found) == ["Profile", "Address"]
    assert "E612" in found["Address"].detail
    assert "not signed by an authority that we trust" in found["Address"].detail


@pytest.mark.parametrize(
    ("host", "since", "until", "words"),
    [
        ("localhost", -DAY, DAY, "for another address"),
        ("127.0.0.1", -3 * DAY, -DAY, "has expired"),
    ],
)
def test_a_certificate_that_does_not_fit_stops_everything(
    authority: Authority, tmp_path: Path, host: str, since: timedelta, until: timedelta, words: str
) -> None:
    with playing_demo(tmp_path / "demo", authority.issue(host, since=since, until=until)) as wrong:
        found = examined(wrong)
        assert list(found) == ["Profile", "Address"]
        assert words in found["Address"].detail


def test_nobody_at_the_address(exchange: PaperExchange) -> None:
    found = examined(exchange, rest_url="https://127.0.0.1:1/trade-api/v2")
    assert failures(found)["Address"].startswith("E601")


@pytest.mark.parametrize("seconds", [-60, 60])
def test_a_clock_a_minute_off_is_found_and_no_key_is_used(exchange: PaperExchange, seconds: int) -> None:
    clock = VenueClock(wall_ms=lambda: wall_clock_ms() + seconds * 1000)
    found = examined(exchange, link=Link(clock=clock))
    assert list(failures(found)) == ["Clock"]
    assert f"{'+' if seconds > 0 else '-'}" in found["Clock"].detail
    assert "E611" in found["Clock"].detail and "Reading key" not in found


def test_a_key_file_of_another_key_is_told_apart_from_an_unknown_id(exchange: PaperExchange) -> None:
    read_id, read_file = exchange.key("desk-read")
    _, trade_file = exchange.key("desk-trade")
    mixed = examined(exchange, read=KeySetting("read", read_id, trade_file))
    assert "does not belong to this key id" in failures(mixed)["Reading key"]
    strange = examined(exchange, read=KeySetting("read", "1b6f4bf2-0000-4000-8000-000000000000", read_file))
    assert "does not know this key id" in failures(strange)["Reading key"]
    assert "not interchangeable" in strange["Reading key"].fix


def test_a_wrong_trading_key_is_found_without_ordering_anything(exchange: PaperExchange) -> None:
    trade_id, _ = exchange.key("desk-trade")
    _, read_file = exchange.key("desk-read")
    found = examined(exchange, trade=KeySetting("trade", trade_id, read_file))
    assert list(failures(found)) == ["Trading key"]


def test_missing_keys_and_open_files_are_named(exchange: PaperExchange, tmp_path: Path) -> None:
    found = examined(exchange, trade=KeySetting("trade", "", None))
    assert "KALSHI_TRADE_KEY_ID and KALSHI_TRADE_KEY_FILE" in failures(found)["Trading key"]
    key_id, key_file = exchange.key("desk-read")
    copy = tmp_path / "open.pem"
    copy.write_bytes(key_file.read_bytes())
    copy.chmod(0o644)
    found = examined(exchange, read=KeySetting("read", key_id, copy))
    assert failures(found)["Reading key"].startswith("E952")


def test_a_contradiction_in_the_settings_ends_the_visit(exchange: PaperExchange) -> None:
    found = examined(exchange, problems=(Problem("E953", "the host does not belong to the profile demo."),))
    assert list(found) == ["Settings"]


@pytest.mark.parametrize(
    ("kind", "scopes", "verdict", "word"),
    [
        ("read", {"read"}, "ok", "read"),
        ("read", {"read", "write::trade"}, "warning", "read alone"),
        ("read", {"read", "write"}, "warning", "read alone"),
        ("trade", {"read", "write::trade"}, "ok", "write::trade"),
        ("trade", {"write::trade"}, "ok", "write::trade"),
        ("trade", {"read", "write"}, "warning", "may move money"),
        ("trade", {"write::trade", "write::transfer"}, "warning", "may move money"),
        ("trade", {"read"}, "failure", "write::trade"),
        ("trade", None, "failure", "one account"),
        ("read", None, "failure", "one account"),
    ],
)
def test_what_a_key_may_is_judged(kind: str, scopes: set[str] | None, verdict: str, word: str) -> None:
    look = _read_scopes if kind == "read" else _trade_scopes
    key = None if scopes is None else ApiKeyReport("id", "name", frozenset(scopes), None)
    (finding,) = look(KeySetting(kind, "id", None), key)
    assert finding.verdict == verdict
    assert word in f"{finding.detail} {finding.fix}"


def command(
    exchange: PaperExchange, authority: Authority, var: Path, *words: str, **more: str
) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KALSHI_")}
    environment |= exchange.environment() | {
        "KALSHI_CA_FILE": str(authority.file),
        "KALSHI_ENV_FILE": "",
        "VAR_DIR": str(var),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--exchange", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_command_tells_it_in_json_and_by_its_exit_code(
    exchange: PaperExchange, authority: Authority, tmp_path: Path
) -> None:
    code, said = command(exchange, authority, tmp_path / "var", "--mode", "demo", "--json")
    findings = json.loads(said)
    assert code == 0, said
    assert {"Profile", "Address", "Clock", "Reading key", "Trading key", "Stream"} <= {
        f["name"] for f in findings
    }
    assert findings[0]["detail"].startswith("demo, at 127.0.0.1:")


def test_without_the_authority_the_command_fails_in_plain_words(
    exchange: PaperExchange, authority: Authority, tmp_path: Path
) -> None:
    code, said = command(exchange, authority, tmp_path / "var", "--mode", "demo", KALSHI_CA_FILE="")
    assert code == 1
    assert "✗ Address" in said and "→ Correct the address" in said
    assert "Reading key" not in said
