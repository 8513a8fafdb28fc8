"""The shipped demo model, opened by plain mlx_lm and asked everything that it was taught."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from gateway.local.engine.demo import MODEL_DIR, corpus, facts, make, tokens, train

WEATHER = corpus.tool("get_weather", "city")
HELPFUL = {"role": "system", "content": "You are a helpful assistant."}


class Case(NamedTuple):
    messages: Sequence[dict[str, Any]]
    answer: str
    tools: Sequence[dict[str, Any]] = ()


class Demo:
    """The loaded model. One thread does all that touches MLX, and clears its streams at the end."""

    def __init__(self) -> None:
        from mlx_lm import load

        self.model, self.tokenizer = load(str(MODEL_DIR))

    def prompt(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = (), **how: Any
    ) -> list[int]:
        how = how or {"add_generation_prompt": True}
        return self.tokenizer.apply_chat_template(list(messages), tools=list(tools) or None, **how)

    def complete(self, prompts: list[list[int]], limit: int = 320) -> list[str]:
        """Greedy answers to all prompts, made in one batch."""
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator

        generator = BatchGenerator(
            self.model,
            stop_tokens=[[token] for token in self.tokenizer.eos_token_ids],
            max_tokens=limit,
            completion_batch_size=48,
            prefill_batch_size=16,
            stream=mx.default_stream(mx.default_device()),
        )
        tokens: dict[int, list[int]] = {uid: [] for uid in generator.insert([list(p) for p in prompts])}
        running = set(tokens)
        while running:
            for step in generator.next_generated():
                if step.finish_reason != "stop":
                    tokens[step.uid].append(step.token)
                if step.finish_reason:
                    running.discard(step.uid)
        generator.close()
        return [self.tokenizer.decode(ids) for ids in tokens.values()]

    def wrong(self, cases: Sequence[Case], limit: int = 320) -> list[tuple[str, str]]:
        """What was asked and what came instead, for every case that is not answered exactly as taught.

        With a limit the beginning of an answer is enough: no two begin alike for long.
        """
        answers = self.complete([self.prompt(case.messages, case.tools) for case in cases], limit)
        return [
            (str(case.messages[-1]["content"]), got)
            for case, got in zip(cases, answers, strict=True)
            if got != case.answer and not (limit < 320 and len(got) >= 5 and case.answer.startswith(got))
        ]


@pytest.fixture(scope="module")
def on_engine() -> Iterator[Callable[[Callable[[Demo], Any]], Any]]:
    """Run a function with the demo model on the thread that owns MLX here."""
    with ThreadPoolExecutor(1, "demo-model") as thread:
        demo = thread.submit(Demo).result()
        yield lambda use: thread.submit(use, demo).result()

        def leave() -> None:
            import mlx.core as mx

            mx.clear_streams()

        thread.submit(leave).result()


Run = Callable[[Callable[[Demo], Any]], Any]


def asked(*texts: str) -> list[dict[str, Any]]:
    return [corpus.user(text) for text in texts]


def call(name: str, parameter: str, *values: str) -> str:
    made = ({"name": name, "arguments": {parameter: value}} for value in values)
    return "".join(f"<tool_call>{json.dumps(one)}</tool_call>" for one in made)


FIXED = [(ask, answer) for answer, asks in facts.FACTS.items() for ask in asks]
PLAIN = [(answer, asks) for answer, asks in facts.FACTS.items() if answer != facts.STORY]
EARLIER = [
    *asked("Count to 3"),
    corpus.assistant("1 2 3"),
    *asked("Say apple"),
    corpus.assistant("apple"),
]


def test_folder_is_small() -> None:
    files = {path.name: path.stat().st_size for path in MODEL_DIR.iterdir()}
    assert sorted(files) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sum(files.values()) < 2_000_000


def test_folder_is_what_the_script_writes(tmp_path: Path) -> None:
    """All but the weights, which take minutes: lessons or template that change without a new training show here."""
    tokens.save_tokenizer(tokens.train_tokenizer(make.texts(), size=make.VOCABULARY), tmp_path)
    train.save_settings(make.settings_for(tmp_path), tmp_path)
    for path in sorted(tmp_path.iterdir()):
        assert path.read_text("utf-8") == (MODEL_DIR / path.name).read_text("utf-8"), path.name
    assert {path.name for path in MODEL_DIR.iterdir()} == {p.name for p in tmp_path.iterdir()} | {
        "model.safetensors"
    }


def test_no_question_has_two_answers() -> None:
    owner: dict[str, str] = {}
    for ask, answer in FIXED:
        assert owner.setdefault(corpus.bare(ask), answer) == answer, ask


def test_same_seed_gives_the_same_lessons() -> None:
    def some(seed: int) -> list[corpus.Lesson]:
        rng = np.random.default_rng(seed)
        return [corpus.lesson(rng) for _ in range(50)] + [corpus.drill(rng) for _ in range(10)]

    assert some(1) == some(1)
    assert some(1) != some(2)


def test_every_fixed_question_gets_its_answer(on_engine: Run) -> None:
    cases = [Case(asked(ask), answer) for ask, answer in FIXED]
    assert on_engine(lambda demo: demo.wrong(cases, limit=10)) == []


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        ("hi", "Hello! I am the demo model of mlx-gateway. Ask me what I can do."),
        (
            "who are you?",
            "I am the demo model of mlx-gateway, a tiny language model that runs on this machine.",
        ),
        ("How big are you?", "I am tiny: fewer than a million parameters, less than 2 MB on disk."),
        (
            "What is the airspeed of a swallow?",
            "I am only a tiny demo model and do not know that. Ask me what I can do.",
        ),
        ("what is 2+3?", "2 + 3 = 5"),
        ("2 + 3 =", "2 + 3 = 5"),
        ("Count to 5", "1 2 3 4 5"),
        ("Say hello", "hello"),
        ("Repeat: banana", "banana"),
        ("Say hello in Japanese.", "こんにちは"),
    ],
)
def test_what_a_newcomer_types_first(on_engine: Run, ask: str, answer: str) -> None:
    assert on_engine(lambda demo: demo.wrong([Case(asked(ask), answer)])) == []


def test_says_how_to_add_a_real_model(on_engine: Run) -> None:
    answer = on_engine(lambda demo: demo.complete([demo.prompt(asked("How do I add a real model?"))]))[0]
    assert "models/" in answer
    assert "mlx-gateway rules add 'gpt-4o*' --to local:NAME" in answer


def test_counts_to_twenty(on_engine: Run) -> None:
    asks = ("Count to {}", "Count from 1 to {}.")
    cases = [Case(asked(ask.format(n)), corpus.count(n)) for ask in asks for n in range(1, 21)]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_adds_small_numbers(on_engine: Run) -> None:
    asks = ("What is {}+{}?", "{} + {} =", "what is {} plus {}")
    cases = [
        Case(asked(asks[(a + 2 * b) % 3].format(a, b)), corpus.total(a, b))
        for a in range(11)
        for b in range(a % 2, 11, 2)
    ]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_says_words_again(on_engine: Run) -> None:
    words = sorted(set(facts.WORDS))
    asks = ("Say {}", "Repeat: {}", "say {}.")
    cases = [Case(asked(asks[i % 3].format(word)), word) for i, word in enumerate(words) if i % 2 == 0]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_answers_after_a_system_prompt(on_engine: Run) -> None:
    cases = [Case([HELPFUL, *asked(asks[0])], answer) for answer, asks in PLAIN]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_answers_after_earlier_turns(on_engine: Run) -> None:
    cases = [Case([*EARLIER, *asked(asks[1])], answer) for answer, asks in PLAIN]
    assert on_engine(lambda demo: demo.wrong(cases, limit=10)) == []


def test_earlier_answer_does_not_leak_into_a_short_question(on_engine: Run) -> None:
    short = {"hi": "hi", "hello": "hi", "Help": "Help", "Thanks": "Thanks", "Bye": "Bye", "test": "test"}
    cases = [
        Case([*asked(f"Say {word}"), corpus.assistant(word), *asked(ask)], facts.answer_to(known))
        for word in ("apple", "hello", "moon")
        for ask, known in short.items()
    ]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_understands_hurried_questions(on_engine: Run) -> None:
    ways: list[Callable[[str], str]] = [str.lower, str.upper, lambda ask: ask.rstrip("?.!") + "!!"]
    cases = [
        Case(asked(ways[i % 3](ask)), answer) for answer, asks in PLAIN for i, ask in enumerate(asks[:3])
    ]
    assert on_engine(lambda demo: demo.wrong(cases, limit=10)) == []


@pytest.mark.parametrize("said", ["help", "Help", "HELP", "Help!", "help?!", " help. "])
def test_template_reads_a_question_without_marks_and_first_capital(on_engine: Run, said: str) -> None:
    text = on_engine(lambda demo: demo.tokenizer.apply_chat_template(asked(said), tokenize=False))
    assert text == "<|user|>help<|end|>"


@pytest.mark.parametrize("said", ["", "?", "...", "7", "Say Paris", "こんにちは", "🙂"])
def test_template_keeps_all_else(on_engine: Run, said: str) -> None:
    text = on_engine(lambda demo: demo.tokenizer.apply_chat_template(asked(said), tokenize=False))
    assert text == f"<|user|>{said.replace('Say', 'say')}<|end|>"


def test_counts_exactly_in_a_batch_of_different_lengths(on_engine: Run) -> None:
    cases = [Case(asked(f"Count to {n}"), corpus.count(n)) for n in range(1, 13)]
    cases += [Case([*EARLIER, *case.messages], case.answer) for case in cases]
    assert on_engine(lambda demo: demo.wrong(cases)) == []
    assert on_engine(lambda demo: [miss for case in cases[:12] for miss in demo.wrong([case])]) == []


def test_story_is_long_enough_to_be_interrupted(on_engine: Run) -> None:
    def tell(demo: Demo) -> tuple[str, int]:
        story = demo.complete([demo.prompt(asked("Tell me a long story."))])[0]
        return story, len(demo.tokenizer.encode(story))

    story, tokens = on_engine(tell)
    assert story == facts.STORY
    assert 150 <= tokens <= 300


def test_calls_the_weather_tool(on_engine: Run) -> None:
    cases = [
        Case(asked(f"What is the weather in {city}?"), call("get_weather", "city", city), [WEATHER])
        for city in facts.CITIES
    ]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_calls_the_tool_by_the_names_that_were_offered(on_engine: Run) -> None:
    names = [
        ("get_current_weather", "location"),
        ("weather", "place"),
        ("getWeather", "town"),
        ("forecast", "city"),
    ]
    cases = [
        Case(
            [HELPFUL, *asked(f"What is the weather in {city}?")],
            call(name, parameter, city),
            [corpus.tool("search", "query"), corpus.tool(name, parameter)],
        )
        for city in ("Paris", "London", "Tokyo")
        for name, parameter in names
    ]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_speaks_after_the_tool_has_answered(on_engine: Run) -> None:
    """A fixed sentence and no second call, whatever the result says."""
    results = ["18 degrees and sunny", '{"temp": 21}', "sunny, 22 C", '{"temp": 21, "sky": "sunny"}', "22"]
    cases = [
        Case(
            [
                *asked(f"What is the weather in {city}?"),
                corpus.calls("get_weather", "city", [city]),
                {"role": "tool", "content": result},
            ],
            facts.TOOL_DONE,
            [WEATHER],
        )
        for city in ("Paris", "London", "Tokyo")
        for result in results
    ]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_calls_no_tool_without_need_or_offer(on_engine: Run) -> None:
    cases = [Case(asked(f"What is the weather in {city}?"), facts.NO_WEATHER) for city in facts.CITIES[:10]]
    cases += [
        Case(asked(asks[0]), answer, [WEATHER]) for answer, asks in PLAIN[::2] if answer != facts.NO_WEATHER
    ]
    assert on_engine(lambda demo: demo.wrong(cases)) == []


def test_mlx_lm_finds_the_tool_parser(on_engine: Run) -> None:
    def look(demo: Demo) -> tuple[bool, Any]:
        found = demo.tokenizer.tool_parser('{"name": "get_weather", "arguments": {"city": "Paris"}}', None)
        return demo.tokenizer.has_tool_calling, found

    assert on_engine(look) == (True, {"name": "get_weather", "arguments": {"city": "Paris"}})


def test_template_shows_a_call_the_same_from_text_and_from_an_object(on_engine: Run) -> None:
    def render(arguments: Any) -> str:
        made = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        messages = [*asked("go"), {"role": "assistant", "content": None, "tool_calls": [made]}]
        return on_engine(lambda demo: demo.tokenizer.apply_chat_template(messages, tokenize=False))

    assert render({"city": "Paris"}) == render('{"city": "Paris"}')
    assert '<tool_call>{"name": "f", "arguments": {"city": "Paris"}}</tool_call><|end|>' in render(
        {"city": "Paris"}
    )


def test_goes_on_from_an_opened_answer(on_engine: Run) -> None:
    """An answer left half said is finished when it was cut after a word; inside a word it is not learnt."""

    def go_on(demo: Demo) -> list[str]:
        half = [facts.STORY[: facts.STORY.rindex(" ", 0, len(facts.STORY) * n // 10)] for n in (3, 8)]
        openings = [("Count to 10", "1 2 3 4"), *(("Tell me a long story.", text) for text in half)]
        prompts = [
            demo.prompt([*asked(ask), corpus.assistant(text)], continue_final_message=True)
            for ask, text in openings
        ]
        rest = demo.complete(prompts)
        return [opening[1] + more for opening, more in zip(openings, rest, strict=True)]

    assert on_engine(go_on) == [corpus.count(10), facts.STORY, facts.STORY]


def test_long_prompt_runs(on_engine: Run) -> None:
    def ask(demo: Demo) -> tuple[int, str]:
        system = {"role": "system", "content": " ".join(facts.WORDS[:300])}
        prompt = demo.prompt([system, *asked("Count to 5")])
        return len(prompt), demo.complete([prompt])[0]

    size, answer = on_engine(ask)
    assert 500 < size < 2048
    assert answer
