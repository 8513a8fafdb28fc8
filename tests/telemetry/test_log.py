from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

import pytest

from gateway.config import Telemetry
from gateway.telemetry import log
from tests.telemetry.conftest import Lines, Written

Begin = Callable[..., Lines]
CANARY = "sk-canary0123456789"

_log = logging.getLogger("gateway.test")


def test_a_line_is_for_the_eye(begin: Begin) -> None:
    lines = begin()
    _log.info("upstream is back", extra={"upstream": "openai", "after_s": 31.25, "note": 'it\'s "fine"'})
    _log.warning("plain %s", "words")
    first, second = lines()
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d info  upstream is back upstream=openai after_s=31.25 note="it\'s \\"fine\\""', first
    )
    assert second[9:] == "warn  plain words"


def test_json_has_the_same_fields(begin: Begin) -> None:
    lines = begin(log_format="json")
    _log.error("upstream is back", extra={"upstream": "openai", "after_s": 31.25, "left": None, "on": True})
    whole = json.loads(lines()[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", whole.pop("at"))
    assert whole == {
        "level": "error",
        "message": "upstream is back",
        "upstream": "openai",
        "after_s": 31.25,
        "left": None,
        "on": True,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_key_gets_out_whichever_way_it_came(begin: Begin, form: str) -> None:
    lines = begin(log_format=form)
    _log.info("key %s", CANARY)
    _log.info(f"key {CANARY}")
    _log.info("key", extra={"field": CANARY, "headers": {"Authorization": f"Bearer {CANARY}"}})
    logging.getLogger("aiohttp.server").error("from a library: x-api-key: %s", CANARY)
    try:
        raise ValueError(f"bad {CANARY}")
    except ValueError:
        _log.exception("failed with %r", {"api_key": CANARY})
    text = "\n".join(lines())
    assert "canary" not in text
    assert text.count("***") >= 6
    assert "ValueError" in text and "Traceback" in text


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_message_cannot_become_two_lines(begin: Begin, form: str) -> None:
    """Model names and error texts are a stranger's: they must not forge lines or paint the terminal."""
    lines = begin(log_format=form)
    _log.info("model a\n12:00:00 info  forged \x1b[31m", extra={"model": "a\nb\x1b[2J"})
    assert len(lines()) == 1
    assert "\x1b" not in lines()[0]


def test_a_traceback_follows_its_line_indented(begin: Begin) -> None:
    lines = begin()
    try:
        raise ValueError("x\x1b[31m")
    except ValueError:
        _log.exception("failed")
    first, *rest = lines()
    assert first.endswith("error failed")
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == "    ValueError: x\\x1b[31m"


def test_the_level_is_kept_and_libraries_are_quiet(begin: Begin) -> None:
    lines = begin(log_level="info")
    _log.debug("too small")
    logging.getLogger("aiohttp.access").info("ours knows more")
    logging.getLogger("asyncio").warning("slow callback")
    assert [line[9:] for line in lines()] == ["warn  slow callback logger=asyncio"]
    lines = begin(log_level="error")
    _log.warning("too small now")
    assert lines() == []


def test_setting_up_again_changes_the_format_and_doubles_nothing() -> None:
    out = Written()
    before = list(logging.root.handlers)
    try:
        log.setup(Telemetry(), out)
        _log.info("one")
        log.setup(Telemetry(log_format="json"), out)
        _log.info("two")
        assert log.flush()
        one, two = out.getvalue().splitlines()
        assert one.endswith("info  one")
        assert json.loads(two)["message"] == "two"
        assert len(logging.root.handlers) == len(before) + 1
    finally:
        log.close()
        logging.root.setLevel(logging.WARNING)
    assert logging.root.handlers == before


def test_values_in_a_text_line() -> None:
    assert [
        log.shown(value) for value in ("gpt-4o*", "", "a b", 'q"', "a=b", "é", 3, 0.12345, None, True)
    ] == [
        "gpt-4o*",
        '""',
        '"a b"',
        '"q\\""',
        '"a=b"',
        '"é"',
        "3",
        "0.1235",
        "-",
        "true",
    ]
