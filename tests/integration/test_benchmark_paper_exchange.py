"""The benchmark of the paper exchange runs, refuses nothing and says what it found; its figures are nobody's test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exchanges import ROOT

pytestmark = pytest.mark.slow


def test_it_measures_the_exchange_beside_its_baseline(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    size = ("--orders", "100", "--connections", "4", "--latency-seconds", "0.1", "--algorithm", "ed25519")
    command = [sys.executable, "-m", "benchmarks.paper_exchange", *size, "--json", str(found)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert found.exists(), done.stderr
    assert done.returncode in {0, 1}, done.stderr
    runs = json.loads(found.read_text())["runs"]
    kinds = [(run["server"], run["algorithm"]) for run in runs]
    assert kinds == [("paper exchange", "ed25519"), ("fsync per request", "ed25519")]
    assert [run["refused"] for run in runs] == [{}, {}]
    assert all(run["creates_per_second"] > 0 for run in runs)
    assert "times the creates per second of an fsync per request" in done.stdout
