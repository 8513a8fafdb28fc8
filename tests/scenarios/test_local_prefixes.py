"""Prompts that begin like an earlier one are not computed again, and nobody can tell but by the usage.

`twin` is the same model as `tiny` under another name: it has no part in the other's cache, so what
it says to a prompt is what `tiny` would say cold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.local.asking import PLAIN
from tests.local.models import make_model
from tests.scenarios.daemon import Daemon
from tests.scenarios.talk import content, joined, reach, stream, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

Said = list[dict[str, str]]
FIELDS: dict[str, Any] = {"max_tokens": 24, "logit_bias": PLAIN}


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_model(models / "tiny", context=4096)
        make_model(models / "twin", context=4096)
        make_model(models / "slow", context=8000, hidden=64, layers=4)

    return make


def turns(*texts: str, system: str = "") -> Said:
    """A conversation that begins with the user."""
    said = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system else []) + said


def rules(topic: str) -> str:
    """A system prompt of its own, of about 400 tokens."""
    return f"All about {topic}: " + "be brief, be kind, be exact, be honest. " * 10


def cached(body: dict[str, Any]) -> int:
    usage = body["usage"]
    found = usage["prompt_tokens_details"]["cached_tokens"]
    assert 0 <= found < usage["prompt_tokens"], "at least one token is always computed"
    return int(found)


async def cold(daemon: Daemon, said: Said, **fields: Any) -> str:
    """What a model says that has never seen any of it. Each test has texts of its own."""
    body = await whole(daemon, "twin", said, **FIELDS | fields)
    return content(body)


async def test_shared_system_prompt_is_computed_once(daemon: Daemon) -> None:
    system = rules("ships")
    first = await whole(daemon, "tiny", turns("What floats?", system=system), **FIELDS)
    assert cached(first) == 0
    for asked in ("What sinks?", "Why?"):
        said = turns(asked, system=system)
        body = await whole(daemon, "tiny", said, **FIELDS)
        assert cached(body) >= len(system) * 3 // 4
        assert cached(body) <= len("<|system|>") + len(system) + len("<|end|><|user|>What ")
        assert content(body) == await cold(daemon, said)


async def test_same_prompt_again_says_the_same(daemon: Daemon) -> None:
    said = turns("Tell me everything about the sea, and do not leave out the fish. " * 3)
    expected = await cold(daemon, said)
    bodies = [await whole(daemon, "tiny", said, **FIELDS) for _ in range(3)]
    assert [content(body) for body in bodies] == [expected] * 3
    assert cached(bodies[0]) == 0
    assert cached(bodies[1]) == cached(bodies[2]) > 64
    chunks = await stream(daemon, "tiny", said, stream_options={"include_usage": True}, **FIELDS)
    assert joined(chunks) == expected
    assert cached(chunks[-1]) == cached(bodies[1])


async def test_conversation_goes_on_where_it_was(daemon: Daemon) -> None:
    said = turns("A first question that is long enough to be worth the trouble of keeping it. Is it?")
    for asked in ("And then?", "And in the end?", "Thank you."):
        answer = await whole(daemon, "tiny", said, **FIELDS)
        assert content(answer) == await cold(daemon, said)
        before = answer["usage"]["total_tokens"]
        said += turns("", content(answer))[1:] + turns(asked)
        body = await whole(daemon, "tiny", said, **FIELDS)
        assert cached(body) >= before * 3 // 4, "its own answer is part of the next prompt"
        assert content(body) == await cold(daemon, said)


async def test_answer_that_is_continued_is_the_exact_hit(daemon: Daemon) -> None:
    """The prompt equals an earlier prompt with its answer, to the token: mlx_lm.server dies of it."""
    said = turns("Go on until I say stop, and I shall not say it for a very long time, you know.")
    answer = content(await whole(daemon, "tiny", said, **FIELDS))
    for part in (answer, answer[:12], answer[:-1]):
        begun = said + turns("", part)[1:]
        body = await whole(daemon, "tiny", begun, **FIELDS)
        assert cached(body) > 64
        assert content(body) == await cold(daemon, begun)
    longer = said + turns("", answer + content(body))[1:]
    assert content(await whole(daemon, "tiny", longer, **FIELDS)) == await cold(daemon, longer)


async def test_only_what_is_the_same_is_shared(daemon: Daemon) -> None:
    """A prompt that parts ways in the middle takes over what comes before, and nothing behind it."""
    same = "The first half of this is the same in every one of them, word for word, up to here: "
    texts = [f"{same}{name} " + "and the second half is like this. " * 4 for name in ("one", "two", "ten")]
    for text in texts:
        said = turns(text)
        body = await whole(daemon, "tiny", said, **FIELDS)
        assert cached(body) <= len("<") + len(same) + 1
        assert content(body) == await cold(daemon, said)
    assert cached(body) > 64


async def test_other_models_share_nothing(daemon: Daemon) -> None:
    said = turns("This is known to one of the two only, although they have the very same weights inside.")
    assert cached(await whole(daemon, "tiny", said, **FIELDS)) == 0
    assert cached(await whole(daemon, "twin", said, **FIELDS)) == 0
    assert cached(await whole(daemon, "tiny", said, **FIELDS)) > 64


async def test_short_prompts_are_just_computed(daemon: Daemon) -> None:
    for _ in range(2):
        assert cached(await whole(daemon, "tiny", "hi", **FIELDS)) <= 5
    assert content(await whole(daemon, "tiny", "hi", **FIELDS)) == await cold(daemon, turns("hi"))


async def test_many_with_one_prefix_at_once(daemon: Daemon) -> None:
    """Rows of one batch that come from the same entry must not write into each other's keys."""
    system = rules("birds")
    asked = [turns(f"Bird number {number}?" * number, system=system) for number in range(1, 9)]
    expected = [await cold(daemon, said) for said in asked]
    await whole(daemon, "tiny", turns("Which bird?", system=system), **FIELDS)
    for order in (asked, asked[::-1]):
        bodies = await asyncio.gather(*(whole(daemon, "tiny", said, **FIELDS) for said in order))
        assert [content(body) for body in bodies] == (expected if order is asked else expected[::-1])
        assert all(cached(body) > 64 for body in bodies)
    same = await asyncio.gather(*(whole(daemon, "tiny", asked[0], **FIELDS) for _ in range(6)))
    assert {content(body) for body in same} == {expected[0]}


async def test_choices_share_their_prompt(daemon: Daemon) -> None:
    said = turns("Three answers to one question, please, and each of them exactly like the other two.")
    body = await whole(daemon, "tiny", said, n=3, **FIELDS)
    assert {content(body, index) for index in range(3)} == {await cold(daemon, said)}
    assert body["usage"]["prompt_tokens"] < 2 * len(said[0]["content"])


async def test_what_was_left_half_done_is_no_harm(daemon: Daemon) -> None:
    """A client leaves while its prompt is computed; whoever asks the same next gets a whole answer."""
    text = "A very long story that nobody wants to hear to its end. " * 110
    asked = asyncio.create_task(whole(daemon, "slow", text, **FIELDS))
    await reach(daemon, "slow", 1, within=15)
    asked.cancel()
    await reach(daemon, "slow", 0, within=5)
    short = text[:700]
    bodies = [await whole(daemon, "slow", short, **FIELDS) for _ in range(2)]
    assert content(bodies[0]) == content(bodies[1])


async def test_sampling_goes_its_own_way_from_a_shared_prefix(daemon: Daemon) -> None:
    said = turns("Roll the dice for me as often as you like, but roll them the same whenever I ask again.")
    fields = {"temperature": 1, "seed": 9}
    expected = await cold(daemon, said, **fields)
    for _ in range(2):
        assert content(await whole(daemon, "tiny", said, **FIELDS | fields)) == expected
    assert content(await whole(daemon, "tiny", said, **FIELDS | fields | {"seed": 10})) != expected
    penalised = {"repetition_penalty": 1.3, "presence_penalty": 0.5}
    expected = await cold(daemon, said, **penalised)
    assert content(await whole(daemon, "tiny", said, **FIELDS | penalised)) == expected
