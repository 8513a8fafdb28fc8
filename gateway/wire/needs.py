"""PURE: what a JSON request asks of whoever is to answer it, as far as that can be told cheaply.

Read leniently: odd types are the target's to refuse, and what can't be read asks for nothing. The values
are looked at where they stand, so that a picture of many megabytes costs no more than a walk over its
bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from gateway.wire.api import Api

_DEPTH = 4  # a message holds parts, a part a tool's result, and that its parts
_JSON_KINDS = ("json_object", "json_schema")
# Each allows the target to leave out some of the prompt, so that nothing is certain of its length.
_SHORTENING = ("truncation", "transforms", "plugins", "context_management", "truncate_prompt_tokens")
# A space stays one, a letter or digit of ASCII becomes `x`, all else a dot.
_TO_SHAPES = bytes(
    32 if byte == 32 else ord("x") if chr(byte).isascii() and chr(byte).isalnum() else ord(".")
    for byte in range(256)
)


class Needs(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a request asks for. Its defaults are what a request asks for of which nothing is known.

    `size` is the bytes of the body without pictures, sound and files; `least_tokens` a number of tokens
    that its prompt has at the very least (see `least_tokens_of`); `choices` how many answers are wanted;
    `prefill` says that the conversation ends with an assistant message, to be gone on from.
    """

    images: bool = False
    audio: bool = False
    files: bool = False
    tools: bool = False
    json: bool = False
    logprobs: bool = False
    prefill: bool = False
    max_tokens: int | None = None
    choices: int = 1
    size: int = 0
    least_tokens: int = 0


_QUOTE, _BRACKET = b'"['
_NONE = msgspec.Raw()


class _Head(msgspec.Struct, gc=False):
    messages: msgspec.Raw = _NONE
    input: msgspec.Raw = _NONE
    prompt: msgspec.Raw = _NONE
    system: msgspec.Raw = _NONE
    instructions: msgspec.Raw = _NONE
    tools: msgspec.Raw = _NONE
    functions: msgspec.Raw = _NONE
    response_format: msgspec.Raw = _NONE
    text: msgspec.Raw = _NONE
    output_config: msgspec.Raw = _NONE
    output_format: msgspec.Raw = _NONE
    logprobs: msgspec.Raw = _NONE
    top_logprobs: msgspec.Raw = _NONE
    include: msgspec.Raw = _NONE
    max_tokens: msgspec.Raw = _NONE
    max_completion_tokens: msgspec.Raw = _NONE
    max_output_tokens: msgspec.Raw = _NONE
    n: msgspec.Raw = _NONE
    audio: msgspec.Raw = _NONE
    truncation: msgspec.Raw = _NONE
    transforms: msgspec.Raw = _NONE
    plugins: msgspec.Raw = _NONE
    context_management: msgspec.Raw = _NONE
    truncate_prompt_tokens: msgspec.Raw = _NONE


class _Piece(msgspec.Struct, gc=False):
    """A message, an item of `input`, or a part of one of these."""

    kind: object = msgspec.field(default=None, name="type")
    role: object = None
    text: msgspec.Raw = _NONE
    content: msgspec.Raw = _NONE
    output: msgspec.Raw = _NONE
    tool_calls: msgspec.Raw = _NONE
    image_url: msgspec.Raw = _NONE
    source: msgspec.Raw = _NONE
    file: msgspec.Raw = _NONE
    file_data: msgspec.Raw = _NONE
    input_audio: msgspec.Raw = _NONE


class _Format(msgspec.Struct, gc=False):
    kind: object = msgspec.field(default=None, name="type")
    format: _Format | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_pieces = msgspec.json.Decoder(list[_Piece]).decode
_decode_format = msgspec.json.Decoder(_Format).decode
_decode_ids = msgspec.json.Decoder(list[int]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_words = msgspec.json.Decoder(list[str]).decode
_decode_int = msgspec.json.Decoder(int).decode

_IMAGES = frozenset({"image_url", "image", "input_image", "computer_screenshot"})
_AUDIO = frozenset({"input_audio", "audio"})
_FILES = frozenset({"file", "input_file", "document"})
T = TypeVar("T")


class _Walk:
    """What was met on the way through messages and their parts."""

    __slots__ = ("audio", "files", "images", "media", "texts")

    def __init__(self) -> None:
        self.images = self.audio = self.files = False
        self.media = 0  # bytes of them
        self.texts: list[memoryview] = []

    def content(self, raw: msgspec.Raw, depth: int = _DEPTH, *, templated: bool = False) -> None:
        """A string, or an array of parts. `templated` text may be shortened by a chat template."""
        view = memoryview(raw)
        if not view:
            return
        if view[0] == _QUOTE:
            if not (templated and b"</" in bytes(view)):
                self.texts.append(view[1:-1])
        elif view[0] == _BRACKET and depth:
            for piece in _try(_decode_pieces, raw) or ():
                self.piece(piece, depth - 1, templated=templated)

    def piece(self, piece: _Piece, depth: int, *, templated: bool = False) -> None:
        kind = piece.kind
        if kind == "reasoning":
            return
        if kind is not None and isinstance(kind, str):
            self._media(piece, kind)
        if piece.text is not _NONE:
            self.content(piece.text, 0, templated=templated)
        if piece.content is not _NONE:
            self.content(piece.content, depth, templated=templated or piece.role == "assistant")
        if piece.output is not _NONE:
            self.content(piece.output, depth)

    def _media(self, piece: _Piece, kind: str) -> None:
        if kind in _IMAGES:
            self.images = True
        elif kind in _AUDIO:
            self.audio = True
        elif kind in _FILES:
            self.files = True
        else:
            return
        for raw in (piece.image_url, piece.source, piece.file, piece.file_data, piece.input_audio):
            if raw is not _NONE:
                self.media += memoryview(raw).nbytes


def needs_of(api: Api, body: bytes) -> Needs:
    """What the body of a request asks for. Nothing in it raises.

    OTHER is read for messages alone: that is what the counting of an Anthropic prompt sends.
    """
    head = _try(_decode_head, body)
    if head is None:
        return Needs(size=len(body))
    walk = _Walk()
    prefill, choices, least = False, _int(head.n) or 1, 0
    if api is Api.RESPONSES:
        walk.content(head.input)
        walk.content(head.instructions)
    elif api is Api.COMPLETIONS:
        count, least = _prompts(head.prompt)
        choices *= count
    else:
        prefill = _messages(walk, head)
    if any(_is_said(getattr(head, name)) for name in _SHORTENING):
        least = 0
    elif api is not Api.COMPLETIONS:
        least = least_tokens_of(walk.texts)
    return Needs(
        images=walk.images,
        audio=walk.audio or _is_said(head.audio),
        files=walk.files,
        tools=_is_said(head.tools) or _is_said(head.functions),
        json=_wants_json(head),
        logprobs=_wants_logprobs(api, head),
        prefill=prefill,
        max_tokens=_least_int(head.max_tokens, head.max_completion_tokens, head.max_output_tokens),
        choices=choices,
        size=len(body) - walk.media,
        least_tokens=least,
    )


def least_tokens_of(texts: list[memoryview]) -> int:
    """No fewer tokens than these insides of JSON strings have with any tokenizer.

    Counted are the words that follow a space and begin with a letter or digit of ASCII. All tokenizers in
    use cut a text before the spaces of its words before they look for tokens, so that no token holds two
    such words: in English the bound is about two thirds of the truth. So many bytes a token would be no
    bound: one token may cover a hundred blanks or dashes. These, escapes, and scripts without spaces
    count nothing.
    """
    if not texts:
        return 0
    joined = b".".join(texts)
    return joined.translate(_TO_SHAPES).count(b" x")


def _messages(walk: _Walk, head: _Head) -> bool:
    """Walks over a conversation. Does it end with a message of the assistant, to be gone on from?"""
    walk.content(head.system)
    messages = _try(_decode_pieces, head.messages)
    if not messages:
        return False
    for message in messages:
        walk.piece(message, _DEPTH)
    last = messages[-1]
    return last.role == "assistant" and not _is_said(last.tool_calls)


def _prompts(raw: msgspec.Raw) -> tuple[int, int]:
    """How many prompts there are, and how long the longest is at least."""
    view = memoryview(raw)
    if view and view[0] == _QUOTE:
        return 1, least_tokens_of([view[1:-1]])
    ids = _try(_decode_ids, raw)
    if ids is not None:
        return 1, len(ids)
    prompts = _try(_decode_raws, raw) or ()
    return max(1, len(prompts)), max((_prompts(each)[1] for each in prompts if _is_prompt(each)), default=0)


def _is_prompt(raw: msgspec.Raw) -> bool:
    return memoryview(raw)[0] == _QUOTE or _try(_decode_ids, raw) is not None


def _wants_json(head: _Head) -> bool:
    for raw in (head.response_format, head.text, head.output_config, head.output_format):
        said = _try(_decode_format, raw) if _has(raw) else None
        if said is not None and (
            said.kind in _JSON_KINDS or (said.format is not None and said.format.kind in _JSON_KINDS)
        ):
            return True
    return False


def _wants_logprobs(api: Api, head: _Head) -> bool:
    if _has(head.logprobs):
        raw = bytes(memoryview(head.logprobs))
        if raw == b"true" or (api is Api.COMPLETIONS and raw[:1].isdigit()):
            return True
    if _int(head.top_logprobs):
        return True
    return "message.output_text.logprobs" in (_try(_decode_words, head.include) or ())


def _has(raw: msgspec.Raw) -> bool:
    return raw is not _NONE


def _is_said(raw: msgspec.Raw) -> bool:
    """Is there a value that asks for something?"""
    if raw is _NONE:
        return False
    view = memoryview(raw)
    return view.nbytes > 16 or bytes(view).translate(None, b" \t\r\n") not in _UNSAID


_UNSAID = (b"null", b"[]", b"{}", b"false", b'""', b'"disabled"')


def _least_int(*raws: msgspec.Raw) -> int | None:
    return min((value for raw in raws if (value := _int(raw))), default=None)


def _int(raw: msgspec.Raw) -> int | None:
    value = _try(_decode_int, raw) if _has(raw) else None
    return value if value is not None and value > 0 else None


def _try(decode: Callable[[bytes | msgspec.Raw], T], raw: bytes | msgspec.Raw) -> T | None:
    try:
        return decode(raw)
    except (ValueError, RecursionError):
        return None
