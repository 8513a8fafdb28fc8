"""Guides driven by hand, token by token: what may come next, and what they make of what comes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.local.engine.barrier import Barrier
from gateway.local.engine.rules import BrokenRule
from gateway.local.fields import Unsupported
from gateway.local.grammar import GuidePlan
from tests.local.engine.tokenizers_made import byte_level

Run = Callable[[Callable[[], Any]], Any]

CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
TEXTS = [CALL, "<tool_call>[", "</think>"] * 50
TOOLS = [
    {
        "type": "function",
        "function": {"name": "f", "parameters": {"properties": {}, "additionalProperties": False}},
    }
]
FIVE = {"type": "json_schema", "json_schema": {"schema": {"const": 5}}}


def maker(
    *added: str, parser: str | None = None, start: str = "<tool_call>", end: str = "</tool_call>"
) -> Any:
    from mlx_lm.tokenizer_utils import _infer_thinking

    from gateway.local.engine.guide import GuideMaker

    tokenizer = byte_level(TEXTS, added)
    (
        tokenizer._think_start,
        tokenizer._think_end,
        tokenizer._think_start_tokens,
        tokenizer._think_end_tokens,
    ) = _infer_thinking(tokenizer)
    if parser is not None:
        tokenizer._tool_call_start, tokenizer._tool_call_end = start, end
        tokenizer.init_kwargs["tool_parser_type"] = parser
    return GuideMaker(tokenizer, len(tokenizer))


class Drive:
    """A guide and the tokens that it has seen."""

    def __init__(self, made: Any, plan: GuidePlan) -> None:
        self.encode = lambda text: made._tokenizer.encode(text, add_special_tokens=False)
        self.end = made._tokenizer.eos_token_id
        self.guide = made.make(plan)
        self._tokens = [1]
        self._width = len(made._tokenizer)
        self.allowed = self._next()

    def say(self, tokens: str | Sequence[int]) -> Drive:
        """Say something that must be allowed."""
        for token in self.encode(tokens) if isinstance(tokens, str) else tokens:
            assert token in self.allowed
            self._tokens.append(token)
            self.allowed = self._next()
        return self

    @property
    def free(self) -> bool:
        return len(self.allowed) == self._width

    def _next(self) -> set[int]:
        import mlx.core as mx

        logits = self.guide(mx.array(self._tokens), mx.zeros((1, self._width)))
        return {token for token, logit in enumerate(logits[0].tolist()) if logit == 0}


def drive(on_mlx: Run, work: Callable[[], None]) -> None:
    on_mlx(work)


def test_a_mark_in_letters_whose_last_token_goes_on(on_mlx: Run) -> None:
    """The letters of a mark end in the middle of a token; the rest of that token is bound already."""

    def work() -> None:
        made = maker(parser="json_tools")
        row = Drive(made, GuidePlan(tools=TOOLS))
        assert row.encode('<tool_call>{"')[-1] != row.encode("{")[-1]
        assert row.free
        row.say('so <tool_call>{"')
        assert {made.vocabulary.bytes_of(token) for token in row.allowed} <= {b"n", b"na", b"nam", b"name"}
        row.say('name": "f", "arguments": {}}</tool_call>')
        assert row.free
        row.say([row.end])
        assert row.guide.failure is None

    drive(on_mlx, work)


def test_what_begins_like_a_call_and_is_none_is_text(on_mlx: Run) -> None:
    def work() -> None:
        row = Drive(maker(parser="json_tools"), GuidePlan(tools=TOOLS))
        assert row.encode("<tool_call>[")[-1] != row.encode("[")[-1]
        assert row.say("<tool_call>[ and on").free
        assert row.say(CALL).free
        assert row.guide.failure is None

    drive(on_mlx, work)


def test_what_begins_like_a_forced_call_and_is_none_is_a_failure(on_mlx: Run) -> None:
    def work() -> None:
        plan = GuidePlan(tools=TOOLS, tool_choice="required", thinking=True)
        row = Drive(maker("<think>", "</think>", parser="json_tools"), plan)
        row.say("<tool_call>[")
        assert row.guide.failure is not None
        assert row.free

    drive(on_mlx, work)


def test_marks_of_several_tokens(on_mlx: Run) -> None:
    """Gemma's reasoning begins with a token and a word; a model that says the one must say the other."""

    def work() -> None:
        row = Drive(maker("<|channel>", "<channel|>"), GuidePlan(response_format=FIVE, may_think=True))
        (channel,) = row.encode("<|channel>")
        assert row.allowed == {channel, *row.encode("5")}
        row.say([channel])
        for token in row.encode("thought"):
            assert row.allowed == {token}
            row.say([token])
        everything = len(row.allowed) + 1
        assert row.end not in row.allowed
        assert everything == row._width
        row.say("hm 5 </think> <channel|>")
        assert row.end not in row.allowed
        assert len(row.allowed) < 10
        row.say("\n5")
        assert row.allowed == {row.end}

    drive(on_mlx, work)


def test_reasoning_is_an_offer_for_the_first_token_only(on_mlx: Run) -> None:
    def work() -> None:
        schema = {"type": "json_schema", "json_schema": {"schema": {"const": [5]}}}
        row = Drive(maker("<think>", "</think>"), GuidePlan(response_format=schema, may_think=True))
        (think,) = row.encode("<think>")
        assert think in row.allowed
        assert think not in row.say([row.encode("[")[0]]).allowed

    drive(on_mlx, work)


def test_without_an_end_mark_only_calls_follow_a_call(on_mlx: Run) -> None:
    """In Mistral's format nothing says that a call is over but the end of the turn, or the next one."""

    def work() -> None:
        made = maker("[TOOL_CALLS]", "[ARGS]", parser="mistral", start="[TOOL_CALLS]", end="")
        made._family = "mistral"
        (again,) = made._tokenizer.encode("[TOOL_CALLS]", add_special_tokens=False)
        row = Drive(made, GuidePlan(tools=TOOLS)).say("so [TOOL_CALLS]f[ARGS]{}")
        assert row.allowed == {again, row.end}
        row.say("[TOOL_CALLS]f[ARGS]{}").say([row.end])
        assert row.free
        row = Drive(made, GuidePlan(tools=TOOLS, parallel=False)).say("so [TOOL_CALLS]f[ARGS]{}")
        assert row.allowed == {row.end}
        assert row.guide.failure is None

    drive(on_mlx, work)


def test_an_answer_that_goes_on_beyond_its_end_is_a_failure(on_mlx: Run) -> None:
    def work() -> None:
        row = Drive(maker(), GuidePlan(response_format=FIVE)).say("5")
        row.allowed.add(3)
        row.say([3])
        assert row.guide.failure == "the answer went on beyond its end"

    drive(on_mlx, work)


def test_a_matcher_that_gives_up_does_not_end_the_answer(on_mlx: Run) -> None:
    """It would allow the end of the turn then, and the client would take half an answer for a whole one."""

    def work() -> None:
        made = maker()
        row = Drive(made, GuidePlan(response_format=FIVE))
        assert not row.guide._matcher.consume_token(3)
        row.guide._started = False
        row.allowed = row._next()
        assert row.guide.failure is not None

    drive(on_mlx, work)


def test_a_model_whose_format_is_not_known(on_mlx: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    def work() -> None:
        made = maker(parser="function_gemma")
        assert not made.knows_calls
        assert made.make(GuidePlan(tools=TOOLS)) is None
        strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]
        for plan, field in (
            (GuidePlan(tools=TOOLS, tool_choice="required"), "tool_choice"),
            (GuidePlan(tools=TOOLS, response_format=FIVE), "response_format"),
            (GuidePlan(tools=strict), "tools"),
        ):
            with pytest.raises(Unsupported) as caught:
                made.make(plan)
            assert caught.value.param == field
        assert made.make(GuidePlan(response_format=FIVE)) is not None

    drive(on_mlx, work)


def test_a_model_that_answers_in_sections_or_without_an_end(on_mlx: Run) -> None:
    def work() -> None:
        made = maker()
        made._tokenizer._response_format = {"transitions": {"normal": []}}
        with pytest.raises(Unsupported):
            made.make(GuidePlan(response_format=FIVE))
        made = maker()
        made._ends = []
        with pytest.raises(Unsupported):
            made.make(GuidePlan(response_format=FIVE))

    drive(on_mlx, work)


def test_tools_that_no_grammar_holds_are_free_unless_they_are_forced(on_mlx: Run) -> None:
    def work() -> None:
        made = maker("<tool_call>", "</tool_call>", parser="qwen3_coder")
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a b": {}}}}}]
        assert made.make(GuidePlan(tools=tools)) is None
        with pytest.raises(Unsupported):
            made.make(GuidePlan(tools=tools, tool_choice="required"))

    drive(on_mlx, work)


def test_a_grammar_that_can_not_be_compiled_is_refused(on_mlx: Run) -> None:
    def work() -> None:
        made = maker("<tool_call>", "</tool_call>", parser="json_tools")
        compiler = made._tools[0]
        with pytest.raises(BrokenRule):
            compiler.compile("start: (")
        compiler.compile = lambda grammar: compiler._compile("start: nowhere")
        with pytest.raises(Unsupported) as caught:
            made.make(GuidePlan(tools=TOOLS, tool_choice="required"))
        assert caught.value.param == "tool_choice"
        assert made.make(GuidePlan(tools=TOOLS)) is None

    drive(on_mlx, work)


def test_a_schema_that_is_nested_too_deep(on_mlx: Run) -> None:
    def work() -> None:
        deep: Any = {}
        for _ in range(100_000):
            deep = {"items": deep}
        asked = {"type": "json_schema", "json_schema": {"schema": deep}}
        with pytest.raises(Unsupported):
            maker().make(GuidePlan(response_format=asked))

    drive(on_mlx, work)


def test_a_row_that_the_generator_does_not_name_reads_its_own_token(on_mlx: Run) -> None:
    """A processor may be wrapped; then its row waits for itself."""

    def work() -> None:
        import mlx.core as mx

        made = maker()
        batch = SimpleNamespace(logits_processors=[[object()]], _current_tokens=mx.array([3], mx.uint32))
        made.watch(SimpleNamespace(_generation_batch=batch))
        assert Drive(made, GuidePlan(response_format=FIVE)).say("5").guide.failure is None
        batch._current_tokens = None
        assert Drive(made, GuidePlan(response_format=FIVE)).say("5").guide.failure is None

    drive(on_mlx, work)


def test_no_token_completes_a_mark() -> None:
    tokens = [b"<t>", b"<", b"t>", b"t", b">", b"x<t>y", b"> ", b"\xc3", b""]
    barrier = Barrier(SimpleNamespace(tokens=tokens, bytes_of=tokens.__getitem__), [0])
    for tail, shut in (
        (b"", {5}),
        (b"<", {2, 5}),
        (b"<<", {2, 5}),
        (b"<t", {4, 5, 6}),
        (b"<t ", {5}),
        (b"t", {5}),
    ):
        allowed = np.ones(len(tokens), np.bool_)
        barrier.shut(allowed, tail)
        assert {token for token, is_allowed in enumerate(allowed) if not is_allowed} == shut
    few = np.ones(3, np.bool_)
    barrier.shut(few, b"<t")
    assert few.all()
