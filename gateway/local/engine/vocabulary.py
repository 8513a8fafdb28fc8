"""What bytes a token stands for, exactly: half characters too, which decoding would spoil."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """A tokenizer's tokens as bytes. Special tokens stand for their own text.

    The tables are built when they are first needed, which takes a moment for a large vocabulary.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token; none for a number that the tokenizer does not know."""
        return self.tokens[token] if 0 <= token < len(self.tokens) else b""

    @cached_property
    def tokens(self) -> list[bytes]:
        """All tokens in the order of their numbers."""
        size = max(len(self._tokenizer), *(number + 1 for number in self.added), 0)  # there may be holes
        names = self._tokenizer.convert_ids_to_tokens(list(range(size)))
        read = _reader(self._tokenizer)
        found = [read(name) if name is not None else b"" for name in names]
        for number, text in self.added.items():
            found[number] = text.encode()
        return found

    @cached_property
    def added(self) -> dict[int, str]:
        """The tokens that were added to the trained ones: markers, whether they are special or not."""
        return {number: str(token) for number, token in self._tokenizer.added_tokens_decoder.items()}

    @cached_property
    def special(self) -> frozenset[int]:
        """The added tokens that are no text."""
        found = self._tokenizer.added_tokens_decoder.items()
        return frozenset(number for number, token in found if token.special)


def _reader(tokenizer: Any) -> Callable[[str], bytes]:
    """How a token's name in the vocabulary is read: the tokenizer's own decoder tells."""
    decoder = repr(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None))
    if "ByteLevel" in decoder:
        return _byte_level
    if "ByteFallback" in decoder or "Metaspace" in decoder or "▁" in decoder:
        return _sentencepiece
    return lambda name: str(tokenizer.convert_tokens_to_string([name])).encode()


def _alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones are themselves, the others follow from 256 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in plain)
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_ALPHABET = _alphabet()


def _byte_level(name: str) -> bytes:
    try:
        return bytes(_ALPHABET[c] for c in name)
    except KeyError:  # a token that some converter put in as it is
        return name.encode()


def _sentencepiece(name: str) -> bytes:
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace("▁", " ").encode()
