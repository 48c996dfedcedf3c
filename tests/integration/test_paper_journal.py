"""The journal under a running exchange: nothing is told before it is on the disk; a broken disk stops everything."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import yarl

from tests.paper_venue import ASK, PREFIX, A, running
from trading.paper import journal as journal_module
from trading.paper.journal import Journal, JournalFailed
from trading.paper.ledger import Ledger
from trading.paper.records import AccountOpened, Record, SpentId


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Held closed by tests while the disk is slow; never left closed."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_neither_answer_nor_stream_nor_read_comes_before_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    monkeypatch.setattr(
        journal_module, "QUICK_SECONDS", 0.0
    )  # the gate holds the disk's thread, not the loop
    async with running(tmp_path) as paper, paper.trader.stream() as stream:
        paper.exchange.house_submit("maker", A, ASK, 4200, 1000)
        await stream.subscribe("fill")
        journal, write = paper.server.service.journal, Journal._write
        await journal.settled()
        monkeypatch.setattr(Journal, "_write", lambda self, lines: (gate.wait(10), write(self, lines)))
        order = asyncio.create_task(paper.trader.order("bid", "0.42", "1"))
        while journal.sequence == journal.durable_sequence:
            await asyncio.sleep(0)
        read = asyncio.create_task(paper.trader.get("/portfolio/fills"))
        told = asyncio.create_task(stream.next("fill"))
        done, _ = await asyncio.wait({order, read, told}, timeout=0.3)
        assert not done
        gate.set()
        assert (await order)[0] == 201
        assert len((await read)["fills"]) == 1
        assert (await told)["msg"]["count_fp"] == "1.00"


@pytest.mark.parametrize("quick_seconds", [0.0, 1_000.0])
async def test_an_acknowledged_order_is_in_the_file_whoever_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_seconds: float
) -> None:
    """The loop writes to a quick disk itself, a thread to a slow one."""
    monkeypatch.setattr(journal_module, "QUICK_SECONDS", quick_seconds)
    writers, write = set[str](), Journal._write

    def told(journal: Journal, lines: bytes) -> None:
        writers.add(threading.current_thread().name)
        write(journal, lines)

    monkeypatch.setattr(Journal, "_write", told)
    async with running(tmp_path) as paper:
        for number in range(5):
            assert (await paper.trader.order("bid", "0.10", "1", client_order_id=f"mine-{number}"))[0] == 201
            assert f"mine-{number}" in (tmp_path / "journal.jsonl").read_text()
    assert all(name.startswith("paper-journal") is (quick_seconds == 0) for name in writers)


async def test_a_full_disk_refuses_writes_and_stops_the_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_journal: Journal, _lines: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    async with running(tmp_path) as paper:
        end = asyncio.create_task(paper.server.run(asyncio.Event()))
        monkeypatch.setattr(Journal, "_write", full)
        status, body = await paper.trader.order("bid", "0.42", "1")
        assert (status, body["error"]["code"]) == (503, "service_unavailable")
        async with asyncio.timeout(5):
            with pytest.raises(JournalFailed, match="no space"):
                await end
    async with running(tmp_path) as paper:
        assert (await paper.trader.get("/portfolio/orders"))["orders"] == []


async def test_a_grown_journal_is_written_anew_and_tells_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    ledger, journal = Ledger(), Journal(path, compact_at=4_000)
    journal.snapshot = ledger.records
    assert list(journal.read()) == []
    journal.start()

    async def book(record: Record) -> None:
        ledger.apply(record)
        journal.append(1, [record])
        await journal.settled()

    await book(AccountOpened("me", "me", Decimal(5)))
    for number in range(200):
        await book(SpentId("me", "again" if number % 2 else "and-again"))
    await journal.close()
    assert path.stat().st_size < 5_000
    again, reader = Ledger(), Journal(path)
    for entry in reader.read():
        for record in entry.records:
            again.apply(record)
    assert reader.sequence == journal.sequence
    assert list(again.records()) == list(ledger.records())


@pytest.mark.parametrize(
    "path", ["/portfolio//orders", "/portfolio/orders/%41-b", "/portfolio/orders/..%2Ffills"]
)
async def test_the_signature_is_checked_over_the_path_as_received(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as paper:
        url = yarl.URL(paper.origin + PREFIX + path, encoded=True)
        decoded = PREFIX + path.replace("%41", "A").replace("%2F", "/").replace("//", "/").replace(
            "orders/../", ""
        )
        for signed, refused in ((PREFIX + path, False), (decoded, True)):
            headers = paper.reader.signer.headers("GET", signed)
            async with paper.reader.session.get(url, headers=headers) as response:
                code = (await response.json())["error"]["code"]
            known_route = "//" not in path
            assert code == ("authentication_error" if refused and known_route else "not_found")
