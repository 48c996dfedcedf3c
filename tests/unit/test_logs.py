"""What may stand in a log line."""

from __future__ import annotations

import io
import logging

import pytest

from kalshi_site.observability.logs import django_logging

CANARY = "kops_paper_canary_value"


@pytest.mark.parametrize("style", ["console", "json"])
def test_neither_a_traceback_nor_a_named_value_shows_a_secret(style: str) -> None:
    formatter = django_logging(level="INFO", style=style)["formatters"]["desk"]
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter.pop("()")(**formatter))
    log = logging.getLogger("canary")
    log.propagate = False
    log.addHandler(handler)
    try:
        api_token = CANARY
        raise ValueError(len(api_token))
    except ValueError:
        log.exception("broke", extra={"api_token": CANARY})
    assert "ValueError" in stream.getvalue()
    assert CANARY not in stream.getvalue()
