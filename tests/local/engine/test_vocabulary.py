"""The bytes of tokens, against decoders that know."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.local.engine.demo import MODEL_DIR
from gateway.local.engine.vocabulary import Vocabulary
from tests.local.engine.tokenizers_made import byte_level, sentencepiece

TEXTS = ["hello hello world", "größer größer größer", "日本語 日本語", '{"name": "x", "a": [1, 2]}'] * 20
MARKS = ("<tool_call>", "</tool_call>")
PROBES = ["hello world", " größer", "日本語 😀\n\t", '{"a": [1, 2]}', "x\x00y"]


def demo() -> Any:
    from pathlib import Path

    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(Path(MODEL_DIR))


MAKERS = {
    "byte level": lambda: byte_level(TEXTS, MARKS),
    "sentencepiece": lambda: sentencepiece(TEXTS, MARKS),
    "demo": demo,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_bytes_of_tokens_are_the_text(name: str) -> None:
    tokenizer = MAKERS[name]()
    vocabulary = Vocabulary(tokenizer)
    for text in PROBES:
        spelt = b"".join(vocabulary.bytes_of(t) for t in tokenizer.encode(text, add_special_tokens=False))
        assert spelt.decode().lstrip(" ") == text.lstrip(" ")


@pytest.mark.parametrize("name", MAKERS)
def test_the_bytes_are_those_that_llguidance_reads_itself(name: str) -> None:
    from llguidance import LLTokenizer

    tokenizer = MAKERS[name]()
    theirs = LLTokenizer(tokenizer.backend_tokenizer.to_str(), eos_token=tokenizer.eos_token_id)
    vocabulary = Vocabulary(tokenizer)
    for token in range(len(tokenizer)):
        if (
            token not in vocabulary.special and vocabulary.bytes_of(token) != b"\xff"
        ):  # their mark of special ones
            assert vocabulary.bytes_of(token) == theirs.decode_bytes([token])


def test_special_tokens_stand_for_their_text() -> None:
    tokenizer = byte_level(TEXTS, MARKS)
    vocabulary = Vocabulary(tokenizer)
    assert vocabulary.bytes_of(tokenizer.eos_token_id) == b"<|end|>"
    assert vocabulary.bytes_of(tokenizer.get_vocab()["<tool_call>"]) == b"<tool_call>"
    assert vocabulary.special == {tokenizer.eos_token_id}
    assert set(vocabulary.added.values()) == {"<|end|>", *MARKS}


def test_numbers_that_are_no_tokens_have_no_bytes() -> None:
    vocabulary = Vocabulary(byte_level(TEXTS))
    assert vocabulary.bytes_of(-1) == b""
    assert vocabulary.bytes_of(10**6) == b""


def test_a_token_outside_the_alphabet_of_bytes_is_its_own_text() -> None:
    """Converters put some tokens into a byte-level vocabulary as they are."""
    tokenizer = byte_level(TEXTS)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"]["<fim 日>"] = len(state["model"]["vocab"])
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token="<|end|>"
    )
    vocabulary = Vocabulary(fast)
    assert vocabulary.bytes_of(fast.get_vocab()["<fim 日>"]) == "<fim 日>".encode()


def test_other_tokenizers_are_asked_token_by_token() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordPiece({"[UNK]": 0, "hel": 1, "##lo": 2}, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece()
    vocabulary = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=made))
    assert vocabulary.bytes_of(1) == b"hel"


def test_there_may_be_holes_between_the_numbers() -> None:
    tokenizer = byte_level(TEXTS)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    last = max(state["model"]["vocab"].values())
    mark = {"content": "<far>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    state["added_tokens"].append({"id": last + 40, "special": True, **mark})
    state["model"]["vocab"]["<far>"] = last + 40
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer.from_str(json.dumps(state))
    vocabulary = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>"))
    assert vocabulary.bytes_of(last + 40) == b"<far>"
    assert vocabulary.bytes_of(last + 20) == b""
