"""PURE: the content of Responses items as the content of chat messages."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.responses_fields import Changes, Json, array, table, text
from gateway.wire.translate.translation import UntranslatableError


def user_content(path: str, value: Any, changes: Changes) -> str | list[Json]:
    """What a user, a developer or the system says. A single text becomes a string, which all targets take."""
    if isinstance(value, str):
        return value
    parts = [_part(f"{path}[{i}]", part, changes) for i, part in enumerate(array(path, value))]
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def tool_content(path: str, value: Any, changes: Changes) -> str | list[Json]:
    """What a tool gave back: chat takes nothing but text from it."""
    content = user_content(path, value, changes)
    if isinstance(content, list):
        for index, part in enumerate(content):
            if part["type"] != "text":
                raise UntranslatableError(
                    f"{path}[{index}].type", f"{path}[{index}]: a tool of a chat can only give back text"
                )
    return content


def assistant_content(path: str, value: Any) -> tuple[str | None, str | None]:
    """What the assistant said, and what it said to refuse; None where it said neither."""
    if isinstance(value, str):
        return value, None
    said: list[str] = []
    refused: list[str] = []
    for index, part in enumerate(array(path, value)):
        at = f"{path}[{index}]"
        kind = table(at, part).get("type")
        if kind == "refusal":
            refused.append(text(f"{at}.refusal", part.get("refusal")))
        elif kind in ("output_text", "input_text", "text"):
            said.append(text(f"{at}.text", part.get("text")))
        else:
            raise _unknown(at, kind)
    return "".join(said) if said or not refused else None, "".join(refused) if refused else None


def joined_texts(value: Any) -> str:
    """The texts of reasoning parts, a blank line between them; parts without text are overlooked."""
    if not isinstance(value, list):
        return ""
    texts = [part.get("text") for part in value if isinstance(part, dict)]
    return "\n\n".join(found for found in texts if isinstance(found, str) and found)


def _part(path: str, part: Any, changes: Changes) -> Json:
    kind = table(path, part).get("type")
    if part.get("prompt_cache_breakpoint") is not None:
        changes.note("input[].content[].prompt_cache_breakpoint")
    match kind:
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": text(f"{path}.text", part.get("text"))}
        case "input_image":
            return _image(path, part)
        case "input_file":
            return _file(path, part, changes)
        case "input_audio":
            return {
                "type": "input_audio",
                "input_audio": table(f"{path}.input_audio", part.get("input_audio")),
            }
        case _:
            raise _unknown(path, kind)


def _image(path: str, part: Json) -> Json:
    if part.get("file_id") is not None:
        raise UntranslatableError(
            f"{path}.file_id", f"{path}: a chat takes a picture by its URL or data, not by the id of a file"
        )
    image: Json = {"url": text(f"{path}.image_url", part.get("image_url"))}
    if part.get("detail") is not None:
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}


def _file(path: str, part: Json, changes: Changes) -> Json:
    if part.get("file_url") is not None:
        raise UntranslatableError(
            f"{path}.file_url", f"{path}: a chat takes a file by its data or id, not by a URL"
        )
    if part.get("detail") is not None:
        changes.note("input[].content[].detail")
    file = {key: part[key] for key in ("file_id", "file_data", "filename") if part.get(key) is not None}
    return {"type": "file", "file": file}


def _unknown(path: str, kind: Any) -> UntranslatableError:
    shown = repr(kind[:40]) if isinstance(kind, str) else "without a type"
    return UntranslatableError(f"{path}.type", f"{path}: a chat has no part {shown}")
