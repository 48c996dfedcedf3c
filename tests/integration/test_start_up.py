"""What happens to files, database and people before the first process starts, and what is refused at start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.core.checks import Error
from django.db import connection
from django.test import Client

from kalshi_site import checks
from kalshi_site.errors import NotSignedIn
from kalshi_site.identity import ROLES, authenticate_token
from kalshi_site.management.supervisor import database, doctor, people
from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.models import User

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "var")
    made.make()
    return made


def manage(layout: Layout, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    passed = {
        name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")
    }
    environment = {**passed, "VAR_DIR": str(layout.var), "KALSHI_ENV_FILE": "", **settings}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"KALSHI_PROFILE": "live"}, "E954"),
        ({"PAPER_TRADING": "false", "KALSHI_PROFILE": "paper"}, "E953"),
        ({"KALSHI_REST_URL": "https://external-api.kalshi.com/trade-api/v2"}, "E953"),
        ({"KALSHI_MODE": "live"}, "E953"),
        ({"KALSHI_READ_KEY_ID": "id", "KALSHI_READ_KEY_FILE": "/nowhere/key"}, "E952"),
    ],
)
def test_a_bad_setting_stops_the_start_before_anything_is_written(
    tmp_path: Path, settings: dict[str, str], code: str
) -> None:
    untouched = Layout(tmp_path / "untouched")
    refused = manage(untouched, "up", **settings)
    assert refused.returncode == 3
    assert code in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not untouched.var.exists()


def test_a_value_that_cannot_be_read_ends_every_command_with_one_line(layout: Layout) -> None:
    refused = manage(layout, "status", PAPER_TRADING="maybe")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines() == [
        "E953 PAPER_TRADING must be true or false. Compare with .env.template."
    ]


def test_demo_keys_are_asked_for_before_anything_starts(layout: Layout) -> None:
    refused = manage(layout, "up", KALSHI_PROFILE="demo")
    assert refused.returncode == 3
    assert "E951 KALSHI_TRADE_KEY_FILE is missing." in refused.stderr


def test_a_mode_asked_for_by_name_is_entered_whatever_the_environment_says(layout: Layout) -> None:
    refused = manage(layout, "up", "--mode", "demo", KALSHI_PROFILE="paper")
    assert refused.returncode == 3
    assert "E951 KALSHI_READ_KEY_ID is missing. docs/how-to/connect-to-demo.md" in refused.stderr


def test_the_exchange_of_a_paper_desk_that_does_not_run_is_said_to_be_away(layout: Layout) -> None:
    looked = manage(layout, "doctor", "--exchange")
    assert looked.returncode == 1
    assert "the paper exchange is not running" in looked.stdout


def test_status_and_stop_of_nothing_say_so(layout: Layout) -> None:
    assert manage(layout, "status").returncode == 1
    stopped = manage(layout, "stop")
    assert (stopped.returncode, stopped.stdout.strip()) == (0, "The desk was not running.")


def test_a_reset_asks_first(layout: Layout) -> None:
    (layout.paper / "accounts.json").write_text("{}", encoding="utf-8")
    assert manage(layout, "demo", "reset").returncode == 3
    assert layout.paper.exists()


def test_a_reset_leaves_an_empty_desk_and_keeps_the_secret(layout: Layout) -> None:
    for path in (layout.var / "db.sqlite3", layout.credentials, layout.paper / "accounts.json"):
        path.write_text("{}", encoding="utf-8")
    assert manage(layout, "demo", "reset", "--yes").returncode == 0
    assert layout.secret_key.exists()
    assert not any(path.exists() for path in (layout.var / "db.sqlite3", layout.credentials, layout.paper))


def test_logs_show_the_last_lines_of_the_process_that_was_asked_for(layout: Layout) -> None:
    layout.log_file("web").write_text("one\ntwo\nthree\n", encoding="utf-8")
    layout.log_file("feed").write_text("four\n", encoding="utf-8")
    shown = manage(layout, "logs", "web", "-n", "2").stdout.splitlines()
    assert [line.split() for line in shown] == [["web", "two"], ["web", "three"]]
    unknown = manage(layout, "logs", "wbe")
    assert unknown.returncode == 1
    assert "there are feed, web" in unknown.stderr


def test_the_doctor_answers_in_json_too(layout: Layout) -> None:
    findings = json.loads(manage(layout, "doctor", "--json").stdout)
    assert {"name", "verdict", "detail", "fix"} == set(findings[0])
    assert {"Python", "Settings", "Redis live", "Port"} <= {finding["name"] for finding in findings}


@pytest.mark.django_db
def test_the_first_users_are_one_for_each_role_and_stay_the_same(tmp_path: Path) -> None:
    path = tmp_path / "demo-credentials.json"
    first = people.first_users(path, "http://localhost:8000")
    again = people.first_users(path, "http://localhost:8001")
    assert again == first
    assert path.stat().st_mode & 0o777 == 0o600
    written = json.loads(path.read_text(encoding="utf-8"))
    assert set(written) == {"base_url", "users"}
    assert written["base_url"] == "http://localhost:8001"
    assert [user["role"] for user in written["users"]] == list(ROLES)
    assert all(set(user) == {"role", "username", "password", "api_token"} for user in written["users"])
    for user in written["users"]:
        row = User.objects.get(username=user["username"])
        assert row.check_password(user["password"])
        assert row.is_demo
        assert [group.name for group in row.groups.all()] == [user["role"]]
        assert authenticate_token(user["api_token"]).owner == row


@pytest.mark.django_db
def test_demo_logins_open_no_door_outside_the_paper_profile(tmp_path: Path, client: Client) -> None:
    login = next(
        each for each in people.first_users(tmp_path / "logins.json", "http://x") if each["role"] == "admin"
    )
    person = User.objects.get(username="admin")
    client.force_login(person)
    assert authenticate_token(login["api_token"]).owner == person
    assert people.retire_demo_users() == len(ROLES)
    assert authenticate(username="admin", password=login["password"]) is None
    assert client.get("/").status_code == 302, "the open session ends too"
    with pytest.raises(NotSignedIn):
        authenticate_token(login["api_token"])
    again = people.first_users(tmp_path / "logins.json", "http://x")
    assert {each["role"] for each in again} == set(ROLES)
    assert User.objects.filter(is_demo=True, is_active=True).count() == len(ROLES)


@pytest.mark.django_db
def test_logins_that_no_longer_work_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "demo-credentials.json"
    first = people.first_users(path, "http://localhost:8000")
    User.objects.filter(username="risk").update(is_active=False)
    second = people.first_users(path, "http://localhost:8000")
    assert {login["username"]: login["password"] for login in first} != {
        login["username"]: login["password"] for login in second
    }
    assert User.objects.get(username="risk").is_active


@pytest.mark.django_db(transaction=True)
def test_an_existing_database_is_copied_before_it_is_migrated(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the copy by SQLite's backup needs SQLite")
    User.objects.create_user("kept")
    monkeypatch.setattr(database, "_migrations", lambda: (1, 30))
    line = database.bring_up_to_date(layout)
    (copy,) = layout.backups.iterdir()
    assert f"backup {copy.name}" in line
    assert copy.stat().st_mode & 0o777 == 0o600
    import sqlite3

    with sqlite3.connect(copy) as opened:
        names = opened.execute("select username from kalshi_site_user").fetchall()
    opened.close()
    assert names == [("kept",)]


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_up_to_date_is_neither_copied_nor_migrated(layout: Layout) -> None:
    assert "up to date" in database.bring_up_to_date(layout)
    assert not list(layout.backups.iterdir())


@pytest.mark.django_db(transaction=True)
def test_the_database_runs_in_the_mode_that_survives_a_crash() -> None:
    assert checks.check_database_mode(None, databases=["default"]) == []
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=OFF")
    found = checks.check_database_mode(None, databases=["default"])
    connection.close()
    assert [(type(message), message.id) for message in found] == [(Error, "kalshi.E805")]


@pytest.mark.django_db(transaction=True)
def test_the_doctor_looks_at_twelve_things_or_more_and_says_what_to_do(redis_server: str) -> None:
    findings = doctor.examine()
    assert len(findings) >= 12
    assert all(finding.fix for finding in findings if finding.verdict != "ok")


def test_a_look_that_breaks_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def _broken() -> None:
        raise OSError("no such disk")

    monkeypatch.setattr(doctor, "LOOKS", (_broken, doctor._python))
    first, *others = doctor.examine()
    assert (first.name, first.verdict, first.detail) == ("broken", "failure", "OSError: no such disk")
    assert others
