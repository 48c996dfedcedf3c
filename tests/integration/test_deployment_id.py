"""The secret our order ids are derived from is drawn once, whole or not at all, and is the same for all who start."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from kalshi_site import wiring
from kalshi_site.env import ConfigError

STARTERS = 8


@pytest.fixture
def path(tmp_path: Path, settings: Any) -> Path:
    settings.VAR_DIR = tmp_path
    return tmp_path / "deployment_id"


def test_it_is_drawn_once_and_kept_from_others(path: Path) -> None:
    first = wiring.deployment_id()
    assert wiring.deployment_id() == first == uuid.UUID(path.read_text().strip())
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["deployment_id"]


@pytest.mark.parametrize("left", ["", "\n"])
def test_an_empty_file_of_a_start_that_was_killed_is_filled(path: Path, left: str) -> None:
    """Naive: read it as an id. No execution, and no stop by the terminal, starts any more."""
    path.write_text(left)
    path.chmod(0o644)
    assert wiring.deployment_id() == wiring.deployment_id()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("junk", [b"1234", b"\xff\xfe", b"00000000-0000-0000-0000-00000000000"])
def test_what_is_no_id_is_named_and_left_alone(path: Path, junk: bytes) -> None:
    """Orders may have gone out under the id that stood there: another would not find them."""
    path.write_bytes(junk)
    with pytest.raises(ConfigError, match="E953") as refused:
        wiring.deployment_id()
    assert str(path) in str(refused.value)
    assert path.read_bytes() == junk


def test_a_full_disk_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naive: make the name, then write. What is left is an empty file, or half an id."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            wiring.deployment_id()
    assert list(path.parent.iterdir()) == []
    assert wiring.deployment_id()


def test_it_is_on_the_disk_before_it_has_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.exists()))
    wiring.deployment_id()
    assert synced == [False, True], "the file, then the folder that names it"


def test_one_who_does_not_ask_the_lock_and_was_first_wins(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(scratch: Path, name: Path) -> None:
        path.write_text(f"{uuid.UUID(int=5)}\n")
        link(scratch, name)

    monkeypatch.setattr(os, "link", late)
    assert wiring.deployment_id() == uuid.UUID(int=5)


@pytest.mark.parametrize("empty", [False, True])
def test_all_who_start_at_once_get_the_same(path: Path, empty: bool) -> None:
    """Each opens the folder for itself, so that its lock keeps threads apart just as it does processes."""
    for _ in range(10):
        path.unlink(missing_ok=True)
        if empty:
            path.touch()
        together = Barrier(STARTERS)

        def start(together: Barrier = together) -> uuid.UUID:
            together.wait()
            return wiring.deployment_id()

        with ThreadPoolExecutor(STARTERS) as pool:
            drawn = {each.result() for each in [pool.submit(start) for _ in range(STARTERS)]}
        assert drawn == {uuid.UUID(path.read_text().strip())}
