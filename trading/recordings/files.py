"""Where a recording keeps what.

    DIR/events/<market ticker>/<UTC day>.ndjson.gz          {"recv_ms", "event": <the frame as it came>} per line
    DIR/events/<market ticker>/<UTC day>.part0002.ndjson.gz the same day after the recorder was started again
    DIR/metadata/<event ticker>.json                        GET /events/{ticker}, under "response"
    DIR/session/…                                           what belongs to no market, and the recorder's own notes

Names sort in the order of recording, also for readers that know nothing of parts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

EVENTS: Final = "events"
METADATA: Final = "metadata"
SESSION: Final = "session"
# A ticker becomes the name of a folder: nothing in it may lead anywhere else.
_TICKER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class NoRecordingError(ValueError):
    """The folder holds no recording of that market."""

    code = "E871"


def is_ticker(text: str) -> bool:
    """Whether a ticker can be the name of a folder."""
    return _TICKER.fullmatch(text) is not None


def recorded_tickers(root: Path) -> list[str]:
    """Every recorded market, by the day of its first file. Raises NoRecordingError when there is none."""
    folders = {folder.name: day_files(folder) for folder in (root / EVENTS).glob("*")}
    found = sorted((files[0].name, ticker) for ticker, files in folders.items() if files)
    if not found:
        raise NoRecordingError(f"no recordings under {root}")
    return [ticker for _, ticker in found]


def market_files(root: Path, ticker: str) -> list[Path]:
    """A market's files in the order of recording. Raises NoRecordingError."""
    files = day_files(root / EVENTS / ticker) if is_ticker(ticker) else []
    if not files:
        raise NoRecordingError(f"no recording of {ticker} under {root}")
    return files


def day_files(folder: Path) -> list[Path]:
    """The recorded days in a folder and their parts, in the order of recording."""
    return sorted(folder.glob("[0-9]*.ndjson*"), key=lambda file: file.name)


def new_part(folder: Path, day: str) -> Path:
    """A name for that day which no file has yet and which sorts behind those that exist."""
    first = folder / f"{day}.ndjson.gz"
    if not first.exists():
        return first
    number = 2
    while (part := folder / f"{day}.part{number:04}.ndjson.gz").exists():
        number += 1
    return part
