"""What a template is given, and what its refusal says."""

from __future__ import annotations

import pytest

from gateway.local.fields import Unsupported
from gateway.local.prompt import (
    far_too_long,
    field_of,
    given_tokens,
    longest,
    opens_thinking,
    refusal,
    shared_parts,
    template_args,
)
from gateway.local.request import Chat, Count, Embed, Generate, Text, Tokens

USER = [{"role": "user", "content": "x"}]


def test_a_question_gets_a_generation_prompt_and_an_open_answer_goes_on() -> None:
    assert template_args(Chat(messages=USER), [], "", has_thinking=False) == {"add_generation_prompt": True}
    begun = [*USER, {"role": "assistant", "content": "y"}]
    args = template_args(Chat(messages=begun), [], "", has_thinking=False)
    assert args == {"continue_final_message": True}
    called = [*USER, {"role": "assistant", "content": "", "tool_calls": [{}]}]
    assert not Chat(messages=called).prefill


def test_tools_and_the_clients_own_arguments_are_given_on() -> None:
    request = Chat(messages=USER, template_args={"style": "x"})
    args = template_args(request, [{"type": "function"}], "", has_thinking=False)
    assert args["tools"] == [{"type": "function"}]
    assert args["style"] == "x"


@pytest.mark.parametrize(
    ("effort", "template", "thinking", "expected"),
    [
        ("low", "{{ reasoning_effort }}", False, {"reasoning_effort": "low"}),
        ("none", "{{ enable_thinking }}", True, {"enable_thinking": False}),
        ("high", "{{ enable_thinking }}", True, {"enable_thinking": True}),
        ("none", "", False, {}),
    ],
)
def test_effort_goes_into_templates_that_know_it(
    effort: str, template: str, thinking: bool, expected: dict[str, object]
) -> None:
    request = Chat(messages=USER, reasoning_effort=effort)
    args = template_args(request, [], template, has_thinking=thinking)
    assert args == {"add_generation_prompt": True, **expected}


def test_effort_is_refused_where_no_template_knows_it() -> None:
    with pytest.raises(Unsupported) as caught:
        template_args(Chat(messages=USER, reasoning_effort="high"), [], "", has_thinking=True)
    assert caught.value.param == "reasoning_effort"


def test_what_can_never_fit_is_seen_before_it_is_rendered() -> None:
    long = [{"role": "user", "content": "x" * 1281}]
    assert far_too_long(Chat(messages=long), 10)
    assert not far_too_long(Chat(messages=long), 11)
    assert far_too_long(Chat(messages=USER * 11), 10)
    assert not far_too_long(Chat(messages=USER * 10), 10)


def test_a_refusal_is_one_short_line_without_paths() -> None:
    text = refusal("roles must\nalternate, see /usr/lib/x.py or C:\\x\\y" + "z" * 500)
    assert "\n" not in text
    assert "usr" not in text
    assert "C:" not in text
    assert "roles must alternate" in text
    assert len(text) < 400


def test_a_prompt_that_ends_inside_a_thinking_block_is_seen() -> None:
    assert opens_thinking("a<think>\n", "<think>", "</think>")
    assert not opens_thinking("a<think>\n</think>", "<think>", "</think>")
    assert not opens_thinking("a", "<think>", "</think>")


def test_the_system_messages_and_the_whole_of_a_conversation_may_be_shared() -> None:
    system = {"role": "system", "content": "s"}
    assert shared_parts([system, *USER]) == [[system, {"role": "user", "content": ""}], [system, *USER]]
    assert shared_parts(USER) == [USER]


def test_the_field_that_holds_the_prompts() -> None:
    chat, text = Chat(messages=USER), Text("x")
    assert field_of(Generate(prompts=(chat,))) == "messages"
    assert field_of(Generate(prompts=(text,))) == "prompt"
    assert field_of(Embed(inputs=(text,))) == field_of(Count(work=Embed(inputs=(text,)))) == "input"


def test_prompts_of_token_ids_need_no_counting() -> None:
    assert given_tokens(Generate(prompts=(Tokens([1, 2]), Tokens([3])))) == [2, 1]
    assert given_tokens(Generate(prompts=(Tokens([1, 2]), Text("x")))) is None
    assert given_tokens(Embed(inputs=(Tokens([1]),))) == [1]
    assert (longest(Embed(inputs=()), 8), longest(Generate(prompts=()), 8)) == (8, 7)
