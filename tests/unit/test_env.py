"""Settings: what is read, and what is refused with which code."""

from __future__ import annotations

from pathlib import Path

import pytest

from kalshi_site.env import INTERNAL, KNOWN, ConfigError, Settings, broker_url, key_file_problems

ROOT = Path(__file__).resolve().parent.parent.parent


def codes(**environment: str) -> list[str]:
    return [problem.code for problem in Settings(environment).problems()]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        ({"PAPER_TRADING": "true"}, []),
        ({"PAPER_TRADING": "false"}, []),
        ({"PAPER_TRADING": "false", "KALSHI_PROFILE": "paper"}, ["E953"]),
        ({"PAPER_TRADING": "true", "KALSHI_PROFILE": "live"}, ["E954"]),
        ({"PAPER_TRADING": "false", "KALSHI_PROFILE": "live"}, ["E954"]),
        (
            {"PAPER_TRADING": "true", "KALSHI_REST_URL": "https://external-api.kalshi.com/trade-api/v2"},
            ["E953"],
        ),
        ({"KALSHI_WS_URL": "wss://external-api-ws.kalshi.com/trade-api/ws/v2"}, ["E953"]),
        ({"KALSHI_REST_URL": "http://127.0.0.1:9999/trade-api/v2"}, []),
        ({"KALSHI_PROFILE": "demo"}, []),
        ({"KALSHI_PROFILE": "demo", "KALSHI_REST_URL": "https://demo-api.kalshi.co/trade-api/v2"}, []),
        ({"KALSHI_PROFILE": "demo", "KALSHI_REST_URL": "http://demo-api.kalshi.co/trade-api/v2"}, ["E953"]),
        ({"KALSHI_PROFILE": "demo", "KALSHI_REST_URL": "https://demo-api.kalshi.co.example.org/"}, ["E953"]),
        ({"KALSHI_PROFILE": "demo", "KALSHI_REST_URL": "https://external-api.kalshi.com/x"}, ["E953"]),
        ({"KALSHI_TRADING": "yes"}, ["E953"]),
        ({"PAPER_TRADNG": "true"}, ["E953"]),
        ({"KALSHI_READ_KEY_ID": "an-id"}, ["E951"]),
        ({"KALSHI_TRADE_KEY_FILE": "/nowhere/key.pem"}, ["E951", "E952"]),
        ({"KALSHI_CA_FILE": "/nowhere/authority.pem"}, ["E952"]),
        ({"KALSHI_CA_FILE": __file__}, []),
        ({"UNRELATED": "yes", "REDIS_PASSWORD": "of somebody else"}, []),
    ],
)
def test_a_setting_that_contradicts_the_profile_is_refused_with_its_code(
    environment: dict[str, str], expected: list[str]
) -> None:
    assert codes(**environment) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAPER_TRADING", "perhaps"),
        ("KALSHI_PROFILE", "production"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_without_being_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings({name: value}).problems()
    assert refused.value.problems[0].code == "E953"
    assert value not in str(refused.value)


@pytest.mark.parametrize("value", ["4", "86401", "5.5", "five", "0x10", "9" * 30])
def test_a_number_outside_its_range_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="E953 PROPOSAL_TTL_SECONDS"):
        Settings({"PROPOSAL_TTL_SECONDS": value}).whole("PROPOSAL_TTL_SECONDS", 300, low=5, high=86_400)


def test_an_unknown_name_in_the_file_is_refused_and_a_known_one_is_read(tmp_path: Path) -> None:
    dotenv = tmp_path / "settings"
    dotenv.write_text(
        "# comment\nexport PORT=8123\nPROPOSAL_TTL=5\nPAPER_TRADING=true # yes\n", encoding="utf-8"
    )
    settings = Settings({}, dotenv=dotenv)
    assert [str(problem) for problem in settings.problems()] == [
        "E953 PROPOSAL_TTL is not a setting of this product. Compare with .env.template."
    ]
    assert settings.flag("PAPER_TRADING", default=False)
    assert settings.whole("PORT", 8000, low=1, high=65_535) == 8123


def test_the_environment_wins_over_the_file_and_the_file_stays_out_of_the_environment(tmp_path: Path) -> None:
    import os

    dotenv = tmp_path / "settings"
    dotenv.write_text("PORT=8123\nKALSHI_TRADE_KEY_ID=secret-id\n", encoding="utf-8")
    settings = Settings({"PORT": "9000"}, dotenv=dotenv)
    assert settings.text("PORT") == "9000"
    assert settings.text("KALSHI_TRADE_KEY_ID") == "secret-id"
    assert "KALSHI_TRADE_KEY_ID" not in os.environ


def test_a_secret_can_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file\n", encoding="utf-8")
    assert Settings({"SECRET_KEY_FILE": str(secret)}).text("SECRET_KEY") == "from a file"
    with pytest.raises(ConfigError, match="E952 SECRET_KEY_FILE"):
        Settings({"SECRET_KEY_FILE": str(tmp_path / "absent")}).text("SECRET_KEY")


@pytest.mark.parametrize(
    ("mode", "fine"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o644, False)]
)
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int, fine: bool) -> None:
    key = tmp_path / "key"
    key.write_text("not a real key", encoding="utf-8")
    key.chmod(mode)
    found = key_file_problems("KALSHI_READ_KEY_FILE", key)
    assert [problem.code for problem in found] == ([] if fine else ["E952"])
    assert all("chmod 600" in problem.hint for problem in found)


def test_a_key_that_is_missing_or_a_directory_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        assert [problem.code for problem in key_file_problems("KALSHI_READ_KEY_FILE", path)] == ["E952"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("unix:///run/x/live.sock", "redis+socket:///run/x/live.sock?virtual_host=0"),
        ("unix:///run/x/live.sock?db=3", "redis+socket:///run/x/live.sock?virtual_host=3"),
    ],
)
def test_the_task_queue_finds_the_same_redis(url: str, expected: str) -> None:
    assert broker_url(url) == expected


def test_only_the_two_databases_are_accepted(tmp_path: Path) -> None:
    default = tmp_path / "db.sqlite3"
    assert Settings({}).database(default)["NAME"] == str(default)
    entry = Settings({"DATABASE_URL": "postgres://me@127.0.0.1:5432/desk"}).database(default)
    assert (entry["ENGINE"], entry["NAME"]) == ("django.db.backends.postgresql", "desk")
    with pytest.raises(ConfigError, match="E953 DATABASE_URL"):
        Settings({"DATABASE_URL": "mysql://me@127.0.0.1/desk"}).database(default)


def test_the_template_names_every_setting_and_no_other() -> None:
    text = (ROOT / ".env.template").read_text(encoding="utf-8")
    named = {
        line.lstrip("#").split("=")[0]
        for line in text.splitlines()
        if "=" in line and " " not in line.split("=")[0]
    }
    assert named == KNOWN
    assert not KNOWN & INTERNAL


def test_the_template_as_it_is_starts_on_paper() -> None:
    settings = Settings({}, dotenv=ROOT / ".env.template")
    assert settings.problems() == []
    assert settings.flag("PAPER_TRADING", default=False)
