"""PURE: pictures and files, as parts of a chat message and as blocks of Anthropic's."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from gateway.wire.translate.fields import Changes, Fields, no_way, wrong

Block = dict[str, Any]

_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)
_PDF = "application/pdf"
_PDF_BEGINS = "JVBERi0"  # %PDF- in base64
_NAME = "document.pdf"  # OpenAI wants a name for every file


def image_block(part: Fields, changes: Changes) -> Block:
    """A chat's `image_url` part as an image block."""
    image = part.fields("image_url")
    if image is None:
        raise wrong(part.at("image_url"), "an object", None)
    url = image.needed("url")
    if image.take("detail") not in (None, "auto"):
        changes.note("detail")
    image.drop_rest(changes)
    if url[:5].lower() == "data:":
        kind, data = _of_data_url(url, image.at("url"))
        kind = "image/jpeg" if kind == "image/jpg" else kind
        if kind not in _IMAGE_TYPES:
            raise no_way(image.at("url"), "pictures must be JPEG, PNG, GIF or WebP")
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    if url[:8].lower().startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    raise no_way(image.at("url"), "only http, https and data URLs are known")


def image_part(block: Fields, changes: Changes) -> Block:
    """An image block as a chat's `image_url` part."""
    source = _source(block)
    kind = source.needed("type")
    if kind == "base64":
        url = f"data:{source.needed('media_type')};base64,{source.needed('data')}"
    elif kind == "url":
        url = source.needed("url")
    else:
        raise no_way(source.at("type"), "the file lies with another provider")
    source.drop_rest(changes)
    return {"type": "image_url", "image_url": {"url": url}}


def document_block(part: Fields, changes: Changes) -> Block:
    """A chat's `file` part as a document block."""
    file = part.fields("file")
    if file is None:
        raise wrong(part.at("file"), "an object", None)
    if file.take("file_id") is not None:
        raise no_way(file.at("file_id"), "the file lies with another provider")
    name, said = file.text("filename"), file.needed("file_data")
    file.drop_rest(changes)
    block: Block = {"type": "document", "source": _document_source(said, name, file.at("file_data"))}
    if name is not None and name != _NAME:
        block["title"] = name
    return block


def document_parts(block: Fields, changes: Changes) -> list[Block]:
    """A document block as parts of a chat message: a file, or the text and pictures that it is made of."""
    source = _source(block)
    kind, title = source.needed("type"), block.text("title")
    for name in ("context", "citations"):
        if block.take(name):
            changes.note(name)
    if kind == "base64":
        url = f"data:{source.needed('media_type')};base64,{source.needed('data')}"
        source.drop_rest(changes)
        return [{"type": "file", "file": {"filename": title or _NAME, "file_data": url}}]
    if title is not None:
        changes.note("title")
    if kind == "text":
        text = source.needed("data")
        source.take("media_type")
        source.drop_rest(changes)
        return [{"type": "text", "text": text}]
    if kind == "content":
        return _content_parts(source, changes)
    raise no_way(source.at("type"), "a file must come with its content")


def search_result_parts(block: Fields, changes: Changes) -> list[Block]:
    """A search result as text: what it is called, where it is from, what it says."""
    changes.note("search_result")
    block.take("citations")
    texts = [block.text("title"), block.text("source")]
    for index, item in enumerate(block.array("content")):
        texts.append(Fields(f"{block.at('content')}[{index}]", item).text("text"))
    return [{"type": "text", "text": text} for text in texts if text]


def _content_parts(source: Fields, changes: Changes) -> list[Block]:
    content = source.take("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise wrong(source.at("content"), "a string or a list", content)
    parts: list[Block] = []
    for index, item in enumerate(content):
        block = Fields(f"{source.at('content')}[{index}]", item)
        kind = block.needed("type")
        if kind == "text":
            parts.append({"type": "text", "text": block.needed("text")})
        elif kind == "image":
            parts.append(image_part(block, changes))
        else:
            raise no_way(block.at("type"), "a document is made of text and pictures")
        block.drop_rest(changes)
    return parts


def _source(block: Fields) -> Fields:
    source = block.fields("source")
    if source is None:
        raise wrong(block.at("source"), "an object", None)
    return source


def _document_source(said: str, name: str | None, at: str) -> Block:
    if said[:5].lower() == "data:":
        kind, data = _of_data_url(said, at)
    else:
        is_pdf = said.startswith(_PDF_BEGINS) or (name or "").lower().endswith(".pdf")
        kind, data = (_PDF if is_pdf else ""), said
    if kind == _PDF:
        return {"type": "base64", "media_type": _PDF, "data": data}
    if kind.startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": _text(data, at)}
    raise no_way(at, "files must be PDF or text")


def _text(data: str, at: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise wrong(at, "base64 of UTF-8", data) from None


def _of_data_url(url: str, at: str) -> tuple[str, str]:
    head = _DATA_URL.match(url)
    if head is None:
        raise no_way(at, "data URLs must be in base64")
    return head[1].lower(), url[head.end() :]
