"""The benchmark of orders measures what it says: two forms that differ in the key and the connection alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import orders, usual_execution, wire
from trading.exchange.auth import open_signer


def test_ours_keeps_key_and_connection_where_the_usual_form_takes_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counting(key_id: str, key_file: Path) -> object:
        opened.append(key_id)
        return open_signer(key_id, key_file)

    monkeypatch.setattr(usual_execution, "open_signer", counting)
    told = wire.measure(tmp_path, 3)
    assert (len(told.ours), len(told.usual)) == (3, 3)
    assert told.connections == 1 + 3  # one for all of ours, one for each of the usual form
    assert len(opened) == 1 + 3  # at its start, and for each order


def test_a_run_is_judged_by_all_its_goals() -> None:
    def run(ours: float, usual: float) -> dict[str, object]:
        ends = {
            "ours": {"accepted": {"p50": ours, "p99": ours}},
            "usual": {"accepted": {"p50": usual, "p99": usual}},
        }
        return {"end_to_end": ends, "in_process_ms": {"ours": {"p50": 1.0}, "usual": {"p50": 40.0}}}

    assert all(orders._met(run(10.0, 45.0)).values())
    assert not orders._met(run(20.0, 90.0))["p50"]
    assert not orders._met(run(10.0, 29.0))["end_to_end"]
