"""What the demo model is taught, read from facts.toml: fixed answers, ways to ask, words to fill in."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def _read() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "facts.toml").read_text(encoding="utf-8"))


_DATA = _read()
_ANSWERS: dict[str, str] = _DATA["answers"]
_WORDS: dict[str, list[str]] = _DATA["words"]
_ASKS: dict[str, list[str]] = _DATA["asks"]

FACTS: dict[str, tuple[str, ...]] = {fact["answer"]: tuple(fact["ask"]) for fact in _DATA["fact"]}


def answer_to(ask: str) -> str:
    """The fixed answer to a phrase of facts.toml, for tests and for those who look it up."""
    return next(answer for answer, asks in FACTS.items() if ask in asks)


UNKNOWN = _ANSWERS["unknown"]
TOO_BIG_SUM = _ANSWERS["too_big_sum"]
TOO_FAR = _ANSWERS["too_far"]
NO_WEATHER = _ANSWERS["no_weather"]
NO_CLOCK = _ANSWERS["no_clock"]
TOO_MUCH_TO_SAY = _ANSWERS["too_much_to_say"]
UNKNOWN_PLACE = _ANSWERS["unknown_place"]
TOOL_DONE = _ANSWERS["tool_done"]
WHICH_CITY = _ANSWERS["which_city"]
WHO = answer_to("Who are you?")
STORY = answer_to("Tell me a long story.")

WORDS = tuple(str(_DATA["words"]["plain"]).split())
SYSTEMS = tuple(_WORDS["systems"])
CITIES = tuple(_WORDS["cities"])
TOPICS = tuple(_WORDS["topics"])
PLACES = tuple(_WORDS["places"])
WEATHER_TOOLS = tuple(_WORDS["weather_tools"])
TIME_TOOLS = tuple(_WORDS["time_tools"])
OTHER_TOOLS: tuple[tuple[str, str], ...] = tuple((name, p) for name, p in _DATA["words"]["other_tools"])

ASK_COUNT = tuple(_ASKS["count"])
ASK_SUM = tuple(_ASKS["sum"])
ASK_BEYOND = tuple(_ASKS["beyond"])
ASK_ECHO = tuple(_ASKS["echo"])
ASK_WEATHER = tuple(_ASKS["weather"])
ASK_TIME = tuple(_ASKS["time"])
ASK_UNKNOWN = tuple(_ASKS["unknown"])
