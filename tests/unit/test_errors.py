"""The registry of errors: every code stands once, means something and is documented."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from kalshi_site.errors import REGISTRY, DeskError, UnknownTicker, as_markdown, kind_of
from trading.domain.orders import IllegalMove, OrderState
from trading.domain.prices import OffGrid

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kalshi_site", "trading", "approvals", "portfolio")


def _codes_in_source() -> dict[str, str]:
    found = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for code in re.findall(r"\"(E\d{3})\"", path.read_text(encoding="utf-8")):
                found[code] = str(path.relative_to(ROOT))
    return found


def test_every_code_in_the_source_is_registered() -> None:
    unknown = {code: path for code, path in _codes_in_source().items() if code not in REGISTRY}
    assert not unknown


def test_codes_that_look_like_http_statuses_stay_unused() -> None:
    assert not [code for code in REGISTRY if 400 <= int(code[1:]) <= 599]


@pytest.mark.parametrize("code", REGISTRY)
def test_every_entry_says_what_happened_and_what_to_do(code: str) -> None:
    kind = REGISTRY[code]
    assert re.fullmatch(r"E\d{3}", code)
    assert kind.title
    assert kind.recovery.endswith(".")
    assert 400 <= kind.status <= 599


def test_no_two_codes_share_a_title() -> None:
    titles = [kind.title for kind in REGISTRY.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OffGrid(Decimal("0.505"), Decimal("0.50"), Decimal("0.51")), "E014"),
        (IllegalMove(OrderState.FILLED, OrderState.RESTING), "E212"),
        (UnknownTicker("no market X"), "E020"),
        (DeskError("too much", code="E301", limit=500), "E301"),
        (ValueError("who knows"), "E901"),
        (SystemExit(3), "E901"),
        (DeskError("", code="E998"), "E901"),
    ],
)
def test_an_exception_is_found_by_its_code(error: BaseException, code: str) -> None:
    assert kind_of(error).code == code


def test_a_refusal_carries_its_numbers_and_speaks_the_title_when_nothing_else_is_said() -> None:
    error = DeskError(code="E301", limit=Decimal(500), asked=Decimal(900))
    assert str(error) == REGISTRY["E301"].title
    assert error.numbers == {"limit": Decimal(500), "asked": Decimal(900)}


def test_the_reference_page_is_current() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    assert page == as_markdown(), "run: manage.py errors --write"
