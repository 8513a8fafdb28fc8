"""What the detokeniser and the markers do at the edges of an answer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

Run = Callable[[Callable[[], Any]], Any]


class Words:
    """A detokeniser whose tokens are texts."""

    def __init__(self, *, broken: bool = False) -> None:
        self.text, self.offset, self._broken = "", 0, broken

    def add_token(self, token: str) -> None:
        self.text += token

    @property
    def last_segment(self) -> str:
        found, self.offset = self.text[self.offset :], len(self.text)
        return found

    def finalize(self) -> None:
        if self._broken:
            raise KeyError("▁")
        self.text += "tail\ufffd"


def flow(edges: dict[str, Any], words: Words, **fields: Any) -> Any:
    from gateway.local.engine.foreign import TextStateMachine
    from gateway.local.engine.text import TextFlow

    how = {"initial": "normal", "stop": (), "tidy": False, **fields}
    return TextFlow(words, TextStateMachine(edges), **how)


def test_a_text_that_goes_on_from_another_does_not_repeat_it(on_mlx: Run) -> None:
    found = flow({}, Words())
    found.prime(["before "])
    assert found.feed("x") == [("content", "x")]
    assert found.feed("") == []


def test_half_a_character_at_the_end_is_dropped() -> None:
    assert flow({}, Words()).end() == [("content", "tail")]


def test_a_detokeniser_that_fails_at_the_end_loses_no_more_than_it_held() -> None:
    assert flow({}, Words(broken=True)).end() == []


def test_a_format_that_ends_the_turn_itself_ends_the_answer() -> None:
    found = flow({"normal": [("<end>", None)]}, Words())
    assert found.feed("text<end>more") == [("content", "text")]
    assert found.stopped
    assert found.end() == []


def test_text_of_a_state_that_is_for_nobody_is_not_given_out() -> None:
    edges: dict[str, Any] = {"header": [("<msg>", "normal")], "normal": []}
    found = flow(edges, Words(), initial="header")
    assert found.feed("to=user<msg>hello") == [("content", "hello")]


def test_a_stop_string_does_not_reach_across_a_marker() -> None:
    edges = {"normal": [("<t>", "tool")], "tool": [("</t>", "normal")]}
    found = flow(edges, Words(), stop=("ab",))
    assert found.feed("xa<t>call</t>b") == [
        ("content", "x"),
        ("content", "a"),
        ("tool", "call"),
        ("tool end", ""),
        ("content", "b"),
    ]
    assert not found.stopped


def test_a_stop_in_what_was_held_back_ends_the_answer() -> None:
    found = flow({}, Words(), stop=("tail",))
    assert found.feed("x") == [("content", "x")]
    assert found.end() == []
    assert found.stopped


def test_stop_strings_count_only_behind_the_least_length_of_an_answer() -> None:
    found = flow({}, Words(), stop=("a",), stop_after=2)
    assert [found.feed(token) for token in ("a", "a", "b", "ca")] == [
        [("content", "a")],
        [("content", "a")],
        [("content", "b")],
        [("content", "c")],
    ]
    assert found.stopped


def test_a_call_that_is_never_closed_is_told_from_one_that_is() -> None:
    edges = {"normal": [("<t>", "tool")], "tool": [("</t>", "normal")]}
    found = flow(edges, Words())
    assert found.feed("<t>one</t>") == [("tool", "one"), ("tool end", "")]
    assert found.feed("<t>two") == [("tool", "two")]
    assert found.end()[-1] == ("broken tool", "")


def test_the_reasoning_is_known_by_its_markers() -> None:
    edges: dict[str, Any] = {"normal": [("<r>", "reasoning")], "reasoning": [("</r>", "normal")]}
    found = flow(edges, Words(), initial="reasoning")
    assert found.reasons
    assert found.feed("why</r>so") == [("reasoning", "why"), ("content", "so")]
    assert not found.reasons


def test_reserved_names_are_those_of_the_template_function(on_mlx: Run) -> None:
    """A new parameter of the library must not become something that a client can set."""

    def names() -> set[str]:
        import inspect

        from transformers.tokenization_utils_base import PreTrainedTokenizerBase

        found = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters
        return {name for name, p in found.items() if p.kind is not p.VAR_KEYWORD} - {"self"}

    from gateway.local.chat import _RESERVED

    assert on_mlx(names) <= _RESERVED


def test_markers_of_a_tokenizer_without_tools(on_mlx: Run) -> None:
    def work() -> list[Any]:
        from gateway.local.engine.models import _machine

        tokenizer = SimpleNamespace(
            has_tool_calling=True,
            has_thinking=True,
            think_start="<think>",
            think_end="</think>",
            tool_call_start="<t>",
            tool_call_end="</t>",
            response_transitions={},
            structural_markers=("<m>",),
        )
        machine = _machine(tokenizer, chat=True, tools=False)
        from gateway.local.engine.text import TextFlow

        found = TextFlow(Words(), machine, initial="normal", stop=(), tidy=False)
        return found.feed("<think>a</think>b<m><t>c</t>")

    assert on_mlx(work) == [("reasoning", "a"), ("content", "b"), ("content", "<t>c</t>")]
