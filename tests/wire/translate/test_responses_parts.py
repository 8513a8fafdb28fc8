"""Parts of content: texts, pictures, files and sound."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.wire.translate.translation import UntranslatableError
from tests.wire.translate.responses import Json, messages, refused, translator

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def content(*parts: Any) -> Any:
    return messages({"role": "user", "content": list(parts)})[0]["content"]


def test_texts() -> None:
    a, b = {"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}
    assert content() == ""
    assert content(a) == "a"
    assert content(a, b) == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_pictures_by_url_and_by_data() -> None:
    text = {"type": "input_text", "text": "what is it?"}
    picture = {"type": "input_image", "image_url": PIXEL, "detail": "low", "file_id": None}
    assert content(text, picture) == [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ]
    assert content({"type": "input_image", "image_url": "https://a.test/x.png"}) == [
        {"type": "image_url", "image_url": {"url": "https://a.test/x.png"}}
    ]


def test_files_and_sound() -> None:
    sound = {"data": "UklGRg==", "format": "wav"}
    assert content(
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_audio", "input_audio": sound},
    ) == [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_audio", "input_audio": sound},
    ]


def test_hints_of_parts_are_dropped_and_noted() -> None:
    via = translator()
    parts = [
        {"type": "input_file", "file_id": "file-1", "detail": "high"},
        {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
    ]
    messages({"role": "user", "content": parts}, via=via)
    assert via.changed == ("input[].content[].detail", "input[].content[].prompt_cache_breakpoint")


def test_the_assistants_texts_are_one() -> None:
    parts = [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]
    said = {"role": "assistant", "content": [*parts, {"type": "output_text", "text": "b"}]}
    assert messages(said) == [{"role": "assistant", "content": "ab", "refusal": "no"}]
    assert messages({"role": "assistant", "content": []}) == [{"role": "assistant", "content": ""}]


def test_what_a_tool_gave_back() -> None:
    def gave(said: Any) -> Any:
        return messages({"type": "function_call_output", "call_id": "a", "output": said})[0]["content"]

    a, b = {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}
    assert gave("x") == "x"
    assert gave([a]) == "a"
    assert gave([a, b]) == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_a_tool_of_a_chat_gives_no_pictures() -> None:
    output = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PIXEL}]
    item = {"type": "function_call_output", "call_id": "a", "output": output}
    assert isinstance(refused("input[0].output[1].type", input=[item]), UntranslatableError)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_image", "file_id": "file-1"}, "file_id"),
        ({"type": "input_file", "file_url": "https://a.test/x.pdf"}, "file_url"),
        ({"type": "input_video"}, "type"),
        ({"text": "a"}, "type"),
    ],
)
def test_parts_that_a_chat_does_not_have(part: Json, param: str) -> None:
    error = refused(f"input[0].content[0].{param}", input=[{"role": "user", "content": [part]}])
    assert isinstance(error, UntranslatableError)


def test_the_assistant_shows_no_pictures() -> None:
    said = {"role": "assistant", "content": [{"type": "input_image", "image_url": PIXEL}]}
    assert isinstance(refused("input[0].content[0].type", input=[said]), UntranslatableError)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ("a", "input[0].content[0]"),
        ({"type": "input_text"}, "input[0].content[0].text"),
        ({"type": "input_image"}, "input[0].content[0].image_url"),
        ({"type": "input_audio"}, "input[0].content[0].input_audio"),
    ],
)
def test_parts_that_are_not_whole(part: Any, param: str) -> None:
    said = {"role": "user", "content": [part]}
    assert not isinstance(refused(param, input=[said]), UntranslatableError)
