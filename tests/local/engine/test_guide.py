"""Answers of random models that are kept to a schema or to a call: what is valid can only come from the mask."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.local.fields import Unsupported
from gateway.local.grammar import GuidePlan
from tests.local.engine.guided import END, Answer, Lab, Script, drawn, greedy
from tests.local.fits import fits

Run = Callable[[Callable[[], Any]], Any]

POINT = {
    "type": "object",
    "properties": {
        "x": {"type": "integer", "minimum": -9, "maximum": 9},
        "y": {"enum": ["up", "down", None, 5]},
    },
    "required": ["x", "y"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "nested": {
        "type": "object",
        "properties": {"at": POINT, "name": {"type": "string", "maxLength": 6}},
        "required": ["at", "name"],
        "additionalProperties": False,
    },
    "anyOf": {"anyOf": [POINT, {"type": "boolean"}, {"type": "array", "items": POINT, "maxItems": 2}]},
    "recursion": {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "v": {"type": "boolean"},
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1},
                },
                "required": ["v", "kids"],
                "additionalProperties": False,
            }
        },
    },
    "minItems": {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 5},
    "formats": {
        "type": "object",
        "properties": {
            "day": {"type": "string", "format": "date"},
            "id": {"type": "string", "format": "uuid"},
        },
        "required": ["day", "id"],
        "additionalProperties": False,
    },
    "pattern": {"type": "array", "items": {"type": "string", "pattern": "^[a-c]{2,4}-\\d$"}, "maxItems": 2},
    "many bytes to a character": {"enum": ["日本語", "ελληνικά 😀", {"ключ": ["é"]}]},
}


def schema(value: Any, *, strict: bool = True) -> GuidePlan:
    return GuidePlan(
        response_format={"type": "json_schema", "json_schema": {"schema": value, "strict": strict}}
    )


def tool(name: str, parameters: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


TOOLS = [
    tool("point", POINT),
    tool("now", {"type": "object", "properties": {}, "additionalProperties": False}),
]


@pytest.fixture(scope="module")
def lab(on_mlx: Run, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return on_mlx(lambda: Lab(tmp_path_factory.mktemp("guided")))


@pytest.fixture(scope="module")
def ask(on_mlx: Run, lab: Lab) -> Callable[..., list[Answer]]:
    """Answers to plans; the guides are made for them."""

    def asked(*plans: GuidePlan | None, **how: Any) -> list[Answer]:
        def work() -> list[Answer]:
            return lab.answers([plan and lab.maker.make(plan) for plan in plans], **how)

        found: list[Answer] = on_mlx(work)
        assert not any(answer.failure for answer in found)
        return found

    return asked


def calls(text: str) -> list[tuple[str, Any]]:
    """The calls in an answer that is nothing but calls."""
    parts = text.split("<tool_call>")
    assert parts[0] == ""
    found = []
    for part in parts[1:]:
        body, mark, after = part.partition("</tool_call>")
        assert mark
        assert not after.strip()
        call = json.loads(body)
        assert list(call) == ["name", "arguments"]
        found.append((call["name"], call["arguments"]))
    return found


def begins(lab: Lab, plan: GuidePlan, tokens: list[int]) -> bool:
    """Can an answer that was cut off here become a valid one?"""
    guide = lab.maker.make(plan)
    assert guide is not None
    assert guide._rules.answer is not None
    return guide._rules.answer.begin().consume_tokens(tokens)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_fits_its_schema(ask: Any, lab: Lab, name: str) -> None:
    plan = schema(SCHEMAS[name])
    finished = 0
    for seed in range(3):
        for answer in ask(*[plan] * 8, seed=seed):
            if answer.finish == "stop":
                assert fits(json.loads(answer.text), SCHEMAS[name]), answer.text
                finished += 1
            else:
                assert begins(lab, plan, answer.tokens), answer.text
    assert finished >= 12


def test_any_object(ask: Any, lab: Lab) -> None:
    plan = GuidePlan(response_format={"type": "json_object"})
    answers = ask(*[plan] * 16)
    for answer in answers:
        if answer.finish == "stop":
            assert isinstance(json.loads(answer.text), dict)
        else:
            assert begins(lab, plan, answer.tokens)
    assert any(answer.finish == "stop" for answer in answers)


def test_without_a_mask_nothing_is_valid(ask: Any) -> None:
    """What the other tests find valid does not come by chance."""
    for answer in ask(*[None] * 8):
        with pytest.raises(ValueError):
            json.loads(answer.text)


def test_blanks_come_to_an_end(ask: Any, lab: Lab) -> None:
    """A confused model must not write blanks for ever; here one says a line break wherever it can."""
    (answer,) = ask(schema(POINT), scripts=[Script(*lab.tokens("\n" * 50), patient=True)])
    assert answer.finish == "stop"
    assert answer.text.count("\n") < 15


@pytest.mark.parametrize("parallel", [False, True])
def test_a_forced_call_is_one(ask: Any, parallel: bool) -> None:
    plan = GuidePlan(tools=TOOLS, tool_choice="required", parallel=parallel)
    schemas = {item["function"]["name"]: item["function"]["parameters"] for item in TOOLS}
    seen = set()
    for answer in ask(*[plan] * 8, seed=3) + ask(*[plan] * 8, seed=4):
        if answer.finish != "stop":
            continue
        found = calls(answer.text)
        assert found
        assert parallel or len(found) == 1
        for name, arguments in found:
            assert fits(arguments, schemas[name])
            seen.add(name)
    assert seen


def test_a_named_tool_is_called_once(ask: Any) -> None:
    plan = GuidePlan(tools=TOOLS, tool_choice="required", tool_name="now")
    assert [calls(answer.text) for answer in ask(*[plan] * 4)] == [[("now", {})]] * 4


def test_parallel_calls_follow_each_other(ask: Any, lab: Lab) -> None:
    plan = GuidePlan(tools=TOOLS[1:], tool_choice="required")
    again = lab.tokens("<tool_call>") * 3
    (answer,) = ask(plan, scripts=[Script(*again, patient=True)])
    assert len(calls(answer.text.rpartition("<tool_call>")[0])) >= 2


@pytest.mark.parametrize("parallel", [False, True])
def test_a_call_that_the_model_begins_is_kept_to_its_tool(ask: Any, lab: Lab, parallel: bool) -> None:
    plan = GuidePlan(tools=TOOLS, parallel=parallel)
    script = lab.tokens("Let me see.<tool_call>")
    for answer in ask(*[plan] * 6, scripts=[Script(*script) for _ in range(6)], limit=400):
        before, mark, rest = answer.text.partition("<tool_call>")
        body, end, after = rest.partition("</tool_call>")
        assert (before, mark, end) == ("Let me see.", "<tool_call>", "</tool_call>")
        assert json.loads(body)["name"] in ("point", "now")
        if not parallel:
            assert after == ""
            assert answer.finish == "stop"


def test_an_answer_is_free_until_a_call_begins(ask: Any, on_mlx: Run, lab: Lab) -> None:
    """Even to the token: reading along changes nothing."""
    plan = GuidePlan(tools=TOOLS)
    guided, free = ask(plan, plan, scripts=[greedy] * 2), ask(None, None, scripts=[greedy] * 2)
    assert [answer.tokens for answer in guided] == [answer.tokens for answer in free]


def test_json_or_a_call(ask: Any, lab: Lab) -> None:
    """A response format binds the text of an answer, and leaves the model its tools."""
    plan = GuidePlan(tools=TOOLS, response_format=schema(POINT).response_format, parallel=False)
    (call, text) = ask(plan, plan, scripts=[Script(*lab.tokens("<tool_call>")), Script(*lab.tokens("{"))])
    assert calls(call.text)
    assert fits(json.loads(text.text), POINT)


def test_reasoning_that_the_prompt_began_is_free(ask: Any, lab: Lab) -> None:
    plan = GuidePlan(response_format=schema(POINT).response_format, thinking=True)
    script = lab.tokens("hm { } hm</think>\n\n")
    for answer in ask(*[plan] * 4, scripts=[Script(*script) for _ in range(4)]):
        thought, _, said = answer.text.partition("</think>")
        assert thought == "hm { } hm"
        assert fits(json.loads(said), POINT)


def test_reasoning_does_not_end_an_answer_that_is_bound(ask: Any) -> None:
    plan = GuidePlan(response_format=schema(POINT).response_format, thinking=True)
    for answer in ask(*[plan] * 8, limit=100):
        assert answer.finish == "length" or fits(json.loads(answer.text.partition("</think>")[2]), POINT)


def test_a_model_may_think_first_if_it_likes(ask: Any, lab: Lab) -> None:
    plan = GuidePlan(tools=TOOLS, tool_choice="required", may_think=True, parallel=False)
    scripts = [Script(*lab.tokens("<think>so be it</think>")), Script(*lab.tokens("<tool_call>"))]
    thinks, calls_ = ask(plan, plan, scripts=scripts)
    assert thinks.text.startswith("<think>so be it</think>")
    assert calls(thinks.text.partition("</think>")[2].lstrip())
    assert calls(calls_.text)


def test_a_call_in_the_middle_of_reasoning_is_the_answer(ask: Any, lab: Lab) -> None:
    """The text state machine of mlx-lm takes it for one, too."""
    plan = GuidePlan(tools=TOOLS, tool_choice="required", thinking=True, parallel=False)
    (answer,) = ask(plan, scripts=[Script(*lab.tokens("hm<tool_call>"))])
    assert len(calls(answer.text.removeprefix("hm"))) == 1


def test_a_mark_in_letters_counts(ask: Any, lab: Lab) -> None:
    plan = GuidePlan(response_format=schema(POINT).response_format, thinking=True)
    (answer,) = ask(plan, scripts=[Script(*lab.letters("hm</think>{"))])
    assert fits(json.loads(answer.text.removeprefix("hm</think>")), POINT)


def test_text_can_spell_no_mark(ask: Any, lab: Lab) -> None:
    """Before, a string that held the letters of an end mark was cut there, and the call was lost."""
    wide = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 60}}, "required": ["a"]}
    wide["additionalProperties"] = False
    plan = GuidePlan(tools=[tool("say", wide)], tool_choice="required", parallel=False)
    begin = '<tool_call>{"name": "say", "arguments": {"a": "'
    scripts = [
        Script(*lab.tokens(begin), *lab.letters("a</tool_call>b<think>"), patient=True),
        Script(*lab.tokens(begin), *lab.letters("<<tool_call><</tool_call>"), patient=True),
    ]
    for answer in ask(plan, plan, scripts=scripts):
        ((_, arguments),) = calls(answer.text)
        assert arguments["a"].startswith(("a</tool_call", "<<tool_call"))


def test_every_end_of_a_model_ends_an_answer(on_mlx: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    """And none of them comes before the answer is complete."""

    def work() -> list[Answer]:
        from gateway.local.engine.guide import GuideMaker

        lab = Lab(tmp_path_factory.mktemp("ends"))
        lab.tokenizer.eos_token_ids = {END, END + 1, 5000}  # the last one is no token of this model
        lab.maker = GuideMaker(lab.tokenizer, len(lab.tokenizer))
        guides = [lab.maker.make(schema(SCHEMAS["minItems"])) for _ in range(16)]
        return lab.answers(guides, scripts=[Script(END + row % 2, patient=True) for row in range(16)])

    answers = on_mlx(work)
    for answer in answers:
        assert answer.failure is None
        assert fits(json.loads(answer.text), SCHEMAS["minItems"])
    assert {answer.last for answer in answers} == {END, END + 1}


@pytest.mark.parametrize("width", [300, 262])
def test_logits_wider_or_narrower_than_the_vocabulary(on_mlx: Run, lab: Lab, width: int) -> None:
    """Models pad their vocabulary, or know fewer tokens than their tokenizer."""

    def work() -> list[list[int]]:
        import mlx.core as mx

        guide = lab.maker.make(schema({"const": 5}))
        assert guide is not None
        said, found = [258], []
        for token in (None, *lab.tokens("5")):
            said += [token] if token is not None else []
            logits = guide(mx.array(said), mx.zeros((1, width)))
            assert logits.shape == (1, width)
            found.append([i for i, logit in enumerate(logits[0].tolist()) if logit == 0])
        assert guide.failure is None
        return found

    assert on_mlx(work) == [lab.tokens("5"), [END]]


def test_a_model_without_the_token_that_must_follow(on_mlx: Run, lab: Lab) -> None:
    def work() -> tuple[bool, str | None]:
        import mlx.core as mx

        guide = lab.maker.make(GuidePlan(tools=TOOLS, tool_choice="required"))
        assert guide is not None
        logits = mx.zeros((1, 200))
        return guide(mx.array([0]), logits) is logits, guide.failure

    assert on_mlx(work) == (True, "no token of this model can follow")


def test_a_guide_that_fails_says_so_and_lets_the_row_go_on(
    on_mlx: Run, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception would poison the generator and with it every other row."""
    caplog.set_level(logging.CRITICAL)

    def work() -> list[tuple[bool, str | None]]:
        import mlx.core as mx

        found = []
        logits = mx.zeros((1, 265))
        for tokens in (mx.array([1, 65]), "no tokens"):  # what the grammar does not allow; what is no array
            guide = lab.maker.make(schema(POINT))
            assert guide is not None
            guide(mx.array([1]), logits)
            found.append((guide(tokens, logits) is logits, guide.failure))
            assert guide(mx.array([1]), logits) is logits
        return found

    (refused, reason), (broken, kind) = on_mlx(work)
    assert refused
    assert reason
    assert broken
    assert kind == "TypeError"


def test_a_fork_starts_over(ask: Any, on_mlx: Run, lab: Lab) -> None:
    plan = schema(SCHEMAS["nested"])

    def work() -> list[Answer]:
        first = lab.maker.make(plan)
        assert first is not None
        lab.answers([first], limit=20)
        return lab.answers([first.fork(), first.fork()])

    for answer in on_mlx(work):
        assert answer.failure is None
        assert fits(json.loads(answer.text), SCHEMAS["nested"])


def test_free_rows_beside_bound_ones_say_what_they_say_alone(ask: Any) -> None:
    plan = schema(SCHEMAS["nested"])
    alone = ask(None, None, None, scripts=[greedy] * 3, limit=60)
    mixed = ask(None, None, None, plan, plan, GuidePlan(tools=TOOLS), scripts=[greedy] * 6, limit=60)
    assert [answer.tokens for answer in mixed[:3]] == [answer.tokens for answer in alone]


def test_watching_the_generator_changes_no_token(ask: Any) -> None:
    plans = [
        schema(SCHEMAS["nested"]),
        GuidePlan(tools=TOOLS),
        None,
        GuidePlan(tools=TOOLS, tool_choice="required"),
    ]
    watched, unwatched = (ask(*plans, scripts=[greedy] * 4, watch=watch) for watch in (True, False))
    assert watched == unwatched


def test_rows_come_and_go(on_mlx: Run, lab: Lab) -> None:
    """The generator merges and filters its rows between steps: each guide still reads its own token."""

    def work() -> list[tuple[str, str | None]]:
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator

        mx.random.seed(0)
        generator = BatchGenerator(
            lab.model, max_tokens=300, stop_tokens=[[END]], stream=mx.default_stream(mx.cpu)
        )
        lab.maker.watch(generator)
        guides: dict[int, Any] = {}
        said: dict[int, list[int]] = {}
        open_rows: set[int] = set()
        while len(guides) < 24 or open_rows:
            if len(guides) < 24 and len(open_rows) < 5:
                guide = lab.maker.make(schema(SCHEMAS["minItems"]))
                (uid,) = generator.insert(
                    [[40 + len(guides), 50]], samplers=[drawn], logits_processors=[[guide]]
                )
                guides[uid], said[uid] = guide, []
                open_rows.add(uid)
            for step in generator.next()[1]:
                if step.finish_reason is None:
                    said[step.uid].append(step.token)
                else:
                    open_rows.discard(step.uid)
        lab.maker.watch(None)
        return [(lab.tokenizer.decode(said[uid]), guide.failure) for uid, guide in guides.items()]

    for text, failure in on_mlx(work):
        assert failure is None
        assert fits(json.loads(text), SCHEMAS["minItems"])


def test_nothing_to_keep_needs_no_guide(on_mlx: Run, lab: Lab) -> None:
    plans = (
        GuidePlan(),
        GuidePlan(response_format={"type": "text"}),
        GuidePlan(tools=TOOLS, tool_choice="none"),
        GuidePlan(thinking=True, may_think=True),
    )
    assert [lab.maker.make(plan) for plan in plans] == [None] * 4


def test_a_schema_that_comes_again_is_not_compiled_again(lab: Lab) -> None:
    one, two, other = (lab.maker.make(schema({"const": value})) for value in (1, 1, 2))
    assert one is not None
    assert two is not None
    assert other is not None
    assert one._rules.answer is two._rules.answer
    assert one._rules.answer is not other._rules.answer


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater than maximum (3)"),
        ({"type": "strin"}, "Invalid type: strin"),
        ({"$ref": "#/nowhere"}, "does not exist"),
        ({"enum": []}, "empty"),
    ],
)
def test_a_schema_that_nothing_fits_is_the_clients_fault(lab: Lab, value: Any, words: str) -> None:
    for strict in (True, False):
        with pytest.raises(RequestError) as caught:
            lab.maker.make(schema(value, strict=strict))
        assert not isinstance(caught.value, Unsupported)
        assert (caught.value.status, caught.value.param) == (400, "response_format")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300
    broken = tool("f", {"type": "object", "properties": {"a": value}, "required": ["a"]})
    with pytest.raises(RequestError) as caught:
        lab.maker.make(GuidePlan(tools=[TOOLS[0], broken]))
    assert caught.value.param == "tools[1].function.parameters"


@pytest.mark.parametrize(
    "value",
    [
        {"type": "array", "uniqueItems": True},
        {"type": "string", "format": "of our own"},
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        {"not": {"type": "string"}},
    ],
)
def test_words_that_no_grammar_keeps_are_refused_only_if_strict(lab: Lab, value: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        lab.maker.make(schema(value))
    assert caught.value.param == "response_format"
    assert lab.maker.make(schema(value, strict=False)) is not None
    parameters = {"type": "object", "properties": {"a": value}}
    with pytest.raises(Unsupported) as caught:
        lab.maker.make(GuidePlan(tools=[tool("f", parameters, strict=True)]))
    assert caught.value.param == "tools[0].function.parameters"
    assert lab.maker.make(GuidePlan(tools=[tool("f", parameters)])) is not None


def test_a_pattern_that_looks_around_is_passed_over_in_a_tool(ask: Any, lab: Lab) -> None:
    """Even a lenient compiler can't pass it over; the call is then kept to its name and to an object."""
    parameters = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=a)b"}}}
    with pytest.raises(Unsupported):
        lab.maker.make(schema(parameters, strict=False))
    plan = GuidePlan(tools=[tool("f", parameters)], tool_choice="required", parallel=False)
    assert lab.maker.make(plan) is not None
    with pytest.raises(Unsupported):
        lab.maker.make(GuidePlan(tools=[tool("f", parameters, strict=True)]))


def test_what_the_batch_makes_of_bound_answers(ask: Any, on_mlx: Run, lab: Lab) -> None:
    """Through the detokeniser, the text state machine and the parser: every call arrives, and no text."""
    wide = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 30}}, "required": ["a"]}
    tools = [tool("say", {**wide, "additionalProperties": False}), *TOOLS]
    plan = GuidePlan(tools=tools, tool_choice="required", may_think=True, parallel=False)
    begin = '<tool_call>{"name": "say", "arguments": {"a": "'
    scripts = [Script(*lab.tokens(begin), *lab.letters("é</tool_call><think>"), patient=True)]
    answers = ask(*[plan] * 8, scripts=scripts)

    def work() -> list[tuple[list[str], list[str]]]:
        from gateway.local.engine.calls import parse_calls
        from gateway.local.engine.foreign import make_text_state_machine
        from gateway.local.engine.text import TextFlow

        found = []
        for answer in answers:
            if answer.finish != "stop":
                continue
            machine = make_text_state_machine(lab.tokenizer)
            flow = TextFlow(lab.tokenizer.detokenizer, machine, initial="normal", stop=(), tidy=True)
            pieces = [piece for token in answer.tokens for piece in flow.feed(token)] + flow.end()
            assert [piece.kind for piece in pieces].count("tool end") == 1
            said = "".join(piece.text for piece in pieces if piece.kind == "tool")
            calls_ = [parse_calls(said, lab.tokenizer, tools)]
            assert all(len(parsed) == 1 for parsed in calls_)
            text = [piece.text for piece in pieces if piece.kind == "content" and piece.text.strip()]
            found.append(([parsed[0].name for parsed in calls_], text))
        return found

    found = on_mlx(work)
    assert len(found) >= 4
    for names, text in found:
        assert names
        assert text == []


def test_the_demo_model_calls_when_it_must(on_mlx: Run) -> None:
    """A trained model keeps to the format that it was taught: its call is what it says unbound."""

    def work() -> list[str]:
        from mlx_lm import load

        from gateway.local.engine.demo import MODEL_DIR
        from gateway.local.engine.guide import GuideMaker

        lab = Lab.__new__(Lab)
        lab.model, lab.tokenizer = load(str(MODEL_DIR))[:2]
        lab.maker = GuideMaker(lab.tokenizer, len(lab.tokenizer))
        city = {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
        }
        tools = [tool("get_weather", {**city, "additionalProperties": False})]
        said = []
        for text in ("What is the weather in Paris?", "Say hello"):
            messages = [{"role": "user", "content": text}]
            prompt = lab.tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True)
            guide = lab.maker.make(GuidePlan(tools=tools, tool_choice="required", parallel=False))
            said += [answer.text for answer in lab.answers([guide], scripts=[greedy], prompts=[prompt])]
            assert guide is not None
            assert guide.failure is None
        return said

    weather, hello = on_mlx(work)
    assert weather == '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
    ((name, arguments),) = calls(hello)
    assert name == "get_weather"
    assert list(arguments) == ["city"]
