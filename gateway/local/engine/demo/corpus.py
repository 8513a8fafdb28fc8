"""The lessons of the demo model: short conversations, drawn from the facts by a seeded generator.

PURE: the same seed gives the same lessons. A lesson is what a client would send plus the answer; the
chat template turns it into tokens elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gateway.local.engine.demo import facts

Message = dict[str, Any]
Rng = np.random.Generator
T = TypeVar("T")

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation whose every assistant turn is to be learnt."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


def pick(rng: Rng, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def calls(name: str, parameter: str, values: Sequence[str]) -> Message:
    """An assistant turn that calls one tool, once for each value."""
    made = [{"type": "function", "function": {"name": name, "arguments": {parameter: v}}} for v in values]
    return {"role": "assistant", "content": "", "tool_calls": made}


def tool(name: str, *parameters: str) -> dict[str, Any]:
    """A tool as a client offers it."""
    schema = {"type": "object", "properties": {p: {"type": "string"} for p in parameters}}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def count(n: int) -> str:
    return " ".join(str(i) for i in range(1, n + 1))


def total(a: int, b: int) -> str:
    return f"{a} + {b} = {a + b}"


def bare(ask: str) -> str:
    """A question as the chat template shows it, in lower case: what two ways to ask must differ in."""
    return ask.strip().rstrip("?.! ").lower()


ASKED = {bare(ask) for asks in facts.FACTS.values() for ask in asks}
BRIEF = [(ask, answer) for answer, asks in facts.FACTS.items() for ask in asks if len(ask.split()) <= 2]


def invented_word(rng: Rng, low: int = 3) -> str:
    """A word that nobody wrote and the tokenizer has to spell."""
    size = int(rng.integers(low, 10))
    if rng.random() < 0.3:
        return "".join(pick(rng, LETTERS) for _ in range(size))
    return "".join(pick(rng, "bcdfghklmnprstvwz" if i % 2 == 0 else "aeiou") for i in range(size))


def any_word(rng: Rng) -> str:
    word = pick(rng, facts.WORDS) if rng.random() < 0.88 else invented_word(rng)
    return word.capitalize() if rng.random() < 0.08 else word


def phrase(rng: Rng, low: int = 1, high: int = 4) -> str:
    return " ".join(any_word(rng) for _ in range(int(rng.integers(low, high + 1))))


def rough(rng: Rng, text: str) -> str:
    """The same question as a hurried person types it; marks and capitals are the template's to remove."""
    if rng.random() < 0.35:
        text = text.lower()
    if rng.random() < 0.1:
        text = text.replace("'", "")
    if rng.random() < 0.06:
        text = pick(rng, ("Please ", "Hey, ", "So, ", "OK, ", "Now ", "And ")) + text[0].lower() + text[1:]
    if rng.random() < 0.05:
        text = text.rstrip("?.!") + pick(rng, (" please", ", please", " ?", "..."))
    return text


def fixed(rng: Rng) -> tuple[str, str]:
    answers = list(facts.FACTS)
    weights = np.array([len(facts.FACTS[a]) + 4.0 for a in answers])
    answer = answers[int(rng.choice(len(answers), p=weights / weights.sum()))]
    return rough(rng, pick(rng, facts.FACTS[answer])), answer


def brief(rng: Rng) -> tuple[str, str]:
    """A question of a word or two: the ones that earlier turns lead astray."""
    ask, answer = pick(rng, BRIEF)
    return rough(rng, ask), answer


def counting(rng: Rng) -> tuple[str, str]:
    if rng.random() < 0.12:
        return rough(rng, pick(rng, facts.ASK_COUNT).format(rng.integers(21, 2000))), facts.TOO_FAR
    n = int(rng.integers(1, 21))
    return rough(rng, pick(rng, facts.ASK_COUNT).format(n)), count(n)


def adding(rng: Rng) -> tuple[str, str]:
    ask = pick(rng, facts.ASK_SUM)
    a, b = (int(x) for x in rng.integers(0, 11, 2))
    how = rng.random()
    if how < 0.06:
        return rough(rng, pick(rng, facts.ASK_BEYOND).format(a, b)), facts.TOO_BIG_SUM
    if how < 0.18:
        pair = [a if rng.random() < 0.6 else int(rng.integers(11, 100)), big_number(rng)]
        rng.shuffle(pair)
        return ask.format(*pair), facts.TOO_BIG_SUM
    return ask.format(a, b) if rng.random() < 0.7 else rough(rng, ask.format(a, b)), total(a, b)


def big_number(rng: Rng) -> int:
    return int(rng.integers(11, 100 if rng.random() < 0.6 else 2000))


def echoing(rng: Rng) -> tuple[str, str]:
    """One or two words of the list to be said again; more, or one that has to be spelt, is too much."""
    ask, how = pick(rng, facts.ASK_ECHO), rng.random()
    if how < 0.72:
        word = pick(rng, facts.WORDS)
        return ask.format(word), word
    if how < 0.84:
        words = f"{pick(rng, facts.WORDS)} {pick(rng, facts.WORDS)}"
        return ask.format(words), words
    much = invented_word(rng, 5) if how < 0.92 else phrase(rng, 3, 7)
    return ask.format(much), facts.TOO_MUCH_TO_SAY


def unknown(rng: Rng) -> tuple[str, str]:
    def topic() -> str:
        return pick(rng, facts.TOPICS) if rng.random() < 0.6 else phrase(rng, 1, 2)

    while True:
        form = pick(rng, facts.ASK_UNKNOWN)
        ask = rough(rng, form.format(*(topic() for _ in range(form.count("{}")))))
        if bare(ask) not in ASKED:
            return ask, facts.UNKNOWN


SINGLE: tuple[tuple[Callable[[Rng], tuple[str, str]], float], ...] = (
    (fixed, 0.36), (brief, 0.06), (counting, 0.10), (adding, 0.17), (echoing, 0.18), (unknown, 0.13),
)  # fmt: skip
_WEIGHTS = np.cumsum([weight for _, weight in SINGLE])


def single(rng: Rng) -> list[Message]:
    task = SINGLE[int(np.searchsorted(_WEIGHTS, rng.random() * _WEIGHTS[-1], side="right"))][0]
    ask, answer = task(rng)
    return [user(ask), assistant(answer)]


def place(rng: Rng) -> str:
    return pick(rng, facts.CITIES) if rng.random() < 0.9 else pick(rng, facts.WORDS)


def unknown_place(rng: Rng) -> str:
    names = [invented_word(rng, 4).capitalize() for _ in range(1 if rng.random() < 0.75 else 2)]
    return " ".join(names)


def tool_result(rng: Rng) -> str:
    """What a weather tool may answer: words, JSON or anything short."""
    degrees = int(rng.integers(-9, 40))
    sky = pick(rng, ("sunny", "cloudy", "rainy", "windy", "snow", "clear", "fog", "storm"))
    key = pick(rng, ("temp", "temperature", "degrees", "celsius", "value"))
    return pick(
        rng,
        (
            f"{degrees} degrees and {sky}", f"{sky}, {degrees} C", f"{degrees}", sky, f"{degrees}°C, {sky}",
            json.dumps({key: degrees}), json.dumps({key: degrees, "sky": sky}), json.dumps({"weather": sky}),
            json.dumps({"condition": sky, key: degrees}), phrase(rng, 1, 12),
            json.dumps({"city": pick(rng, facts.CITIES), key: f"{degrees} C", pick(rng, facts.WORDS): sky}),
            f"It is {sky} and {degrees} degrees.",
        ),
    )  # fmt: skip


def distractors(rng: Rng) -> list[dict[str, Any]]:
    picked = rng.permutation(len(facts.OTHER_TOOLS))[: int(rng.integers(0, 3))]
    return [tool(*facts.OTHER_TOOLS[int(i)]) for i in picked]


def with_tools(rng: Rng) -> Lesson:
    """A question that wants one of the offered tools, maybe with the turn after the result."""
    weather = rng.random() < 0.75
    name = pick(rng, facts.WEATHER_TOOLS if weather else facts.TIME_TOOLS)
    parameter = pick(rng, facts.PLACES)
    extra = ("unit",) if rng.random() < 0.15 else ()
    offered = [*distractors(rng), tool(name, parameter, *extra)]
    if rng.random() < 0.35:
        offered.append(tool(pick(rng, facts.TIME_TOOLS if weather else facts.WEATHER_TOOLS), parameter))
    offered = [offered[int(i)] for i in rng.permutation(len(offered))]
    asks = facts.ASK_WEATHER if weather else facts.ASK_TIME
    if rng.random() < 0.07:
        ask = pick(rng, asks).format(unknown_place(rng))
        return Lesson((user(ask), assistant(facts.UNKNOWN_PLACE)), tuple(offered))
    where = [place(rng) for _ in range(2 if rng.random() < 0.15 else 1)]
    named = " and ".join(where)
    ask = pick(rng, asks).format(named.lower() if rng.random() < 0.12 else named)
    messages = [user(ask), calls(name, parameter, where)]
    if rng.random() < 0.4:
        messages += [{"role": "tool", "content": tool_result(rng)} for _ in where]
        messages.append(assistant(facts.TOOL_DONE))
    while rng.random() < 0.2:
        messages += single(rng)
    return Lesson(tuple(messages), tuple(offered))


def no_tool(rng: Rng) -> Lesson:
    """The weather or the time is asked for and no tool can tell it."""
    asks, answer = (
        (facts.ASK_WEATHER, facts.NO_WEATHER) if rng.random() < 0.8 else (facts.ASK_TIME, facts.NO_CLOCK)
    )
    where = place(rng) if rng.random() < 0.9 else unknown_place(rng)
    ask = rough(rng, pick(rng, asks).format(where))
    return Lesson((user(ask), assistant(answer)), tuple(distractors(rng)) if rng.random() < 0.3 else ())


def fitting(messages: list[Message], tools: Sequence[dict[str, Any]]) -> tuple[Message, ...]:
    """With the tool at hand, a question without a place is answered by asking for the place."""
    offered = {t["function"]["name"] for t in tools}
    wrong = {facts.NO_WEATHER} if offered & set(facts.WEATHER_TOOLS) else set()
    wrong |= {facts.NO_CLOCK} if offered & set(facts.TIME_TOOLS) else set()
    return tuple(assistant(facts.WHICH_CITY) if m["content"] in wrong else m for m in messages)


def lesson(rng: Rng) -> Lesson:
    """One lesson: a task, often after a system prompt, earlier turns or beside tools it does not need."""
    kind = rng.random()
    if kind < 0.21:
        base = with_tools(rng)
    elif kind < 0.25:
        base = no_tool(rng)
    else:
        offered: list[dict[str, Any]] = []
        if rng.random() < 0.12:
            offered = [*distractors(rng), tool(pick(rng, facts.WEATHER_TOOLS), pick(rng, facts.PLACES))]
        base = Lesson(tuple(single(rng)), tuple(offered))
    messages = list(base.messages)
    while rng.random() < 0.35 and len(messages) < 7:
        messages = single(rng) + messages
    if rng.random() < 0.4:
        words = phrase(rng, 3, 12) if rng.random() < 0.15 else pick(rng, facts.SYSTEMS)
        messages.insert(0, {"role": "system", "content": words})
    return Lesson(fitting(messages, base.tools), base.tools)


def drill(rng: Rng) -> Lesson:
    """Several tasks in a row: more practice for less padding, and only the latest question counts."""
    turns: list[Message] = []
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(3, 6))):
            ask, answer = pick(rng, (adding, counting, echoing, echoing, brief))(rng)
            turns += [user(ask), assistant(answer)]
    else:
        for _ in range(int(rng.integers(2, 5))):
            turns += single(rng)
    return Lesson(tuple(turns))


def filler(rng: Rng) -> str:
    """Much text of no use, as words at random or as a phrase over and over."""
    size = int(20 * 20 ** rng.random())
    if rng.random() < 0.6:
        return " ".join(pick(rng, facts.WORDS) for _ in range(size))
    once = phrase(rng, 4, 12)
    return " ".join([once] * (size // len(once.split())))


def long_lesson(rng: Rng) -> Lesson:
    """A task after much text that has nothing to do with it."""
    text, how = filler(rng), rng.random()
    if how < 0.1:
        return Lesson((user(text), assistant(facts.UNKNOWN)))
    if how < 0.5:
        return Lesson(({"role": "system", "content": text}, *single(rng)))
    if how < 0.8:
        return Lesson((user(text), assistant(facts.UNKNOWN), *single(rng)))
    ask, answer = single(rng)
    return Lesson((user(f"{text}\n\n{ask['content']}"), answer))
