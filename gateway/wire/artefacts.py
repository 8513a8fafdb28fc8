"""PURE: what of a request only the provider that made it can read, and the request without it.

A conversation carries such things along: signatures of thinking, encrypted reasoning, the id of an
earlier response, ids of tool calls in one provider's form. When another target answers the next turn it
may refuse them, although the conversation would lose nothing that anybody said. A complaint must name
the thing; what is changed is only that, and all else stays byte for byte.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from string import ascii_letters, digits

from gateway.wire.api import Api
from gateway.wire.failure import WireError
from gateway.wire.spans import Edits, Value, encode, read

_STATUSES = frozenset({400, 404, 422})
_ITEM = r"['\"`]?rs_[\w-]+['\"`]?"
_REASONING = r"\breasoning(?:_content|_details)?\b"
_CALL_ID = r"(?:\btool_calls?\b[^ ]{0,12}\bid|\btool_call_id|\bcall_id)\b['\"`]?"
_CODES = {
    "invalid_encrypted_content": "encrypted_reasoning",
    "previous_response_not_found": "previous_response",
}
_COMPLAINTS = {
    kind: re.compile("|".join(phrases), re.IGNORECASE | re.DOTALL)
    for kind, phrases in {
        # Before the thinking: a marker on a block of thinking is the marker's fault.
        "cache_control": (
            r"\bcache_control\b\S{0,40} ?extra inputs are not permitted",
            r"extra inputs are not permitted.{0,60}\bcache_control\b",
        ),
        "thinking_signature": (
            r"\binvalid [`'\"]?(?:signature|data)[`'\"]? in [`'\"]?(?:redacted_)?thinking[`'\"]? block",
            r"\bexpected [`'\"]?thinking[`'\"]? or [`'\"]?redacted_thinking[`'\"]?,? but found",
            r"\b(?:redacted_)?thinking[`'\"]? blocks\b.{0,60}\bcannot be modified",
            r"\bthinking\.signature: (?:field required|input should be)",
            r"\binput tag ['\"`](?:redacted_)?thinking['\"`] found",
        ),
        "encrypted_reasoning": (
            r"\bencrypted[ _]content\b.{0,200}\bcould not be (?:verified|decrypted|parsed)",
            rf"\bitem {_ITEM} of type ['\"`]?reasoning['\"`]? was provided without its required",
            rf"\bwithout its required ['\"`]?reasoning['\"`]? item: {_ITEM}",
            rf"\bitem with id {_ITEM} not found",
        ),
        "reasoning_content": (
            rf"\bproperty [`'\"]?\S{{0,60}}{_REASONING}[`'\"]? is unsupported",
            rf"{_REASONING}[`'\"]?: ?extra inputs are not permitted",
            rf"extra inputs are not permitted.{{0,60}}{_REASONING}",
        ),
        "item_ids": (
            r"\binvalid ['\"`]?input\[\d+\]\.id['\"`]?: .{0,120}\bexpected an id that (?:begins|contains)\b",
        ),
        "previous_response": (
            r"\bprevious response with id .{0,100}\bnot found",
            r"\binvalid [`'\"]?previous_response_id\b",
        ),
        "tool_ids": (
            r"(?<!server_)\btool_use\.id: string should match pattern",
            r"\btool_result\.tool_use_id: string should match pattern",
            rf"{_CALL_ID}: string (?:is )?too long",
            r"\btool call id was .{0,200}\bmust be a-z",
        ),
    }.items()
}
# A compaction is encrypted too, but it stands for turns that would be lost.
_COMPACTION = re.compile(r"\bcmp_\w+")


def complaint(error: WireError, status: int) -> str:
    """What an upstream's refusal complains of, a kind that `mended` knows; "" if of nothing of these."""
    if status not in _STATUSES:
        return ""
    told = error.message if error.param is None else f"{error.message} {error.param}"
    kind = _CODES.get(error.code or "", "") or next(
        (kind for kind, phrases in _COMPLAINTS.items() if phrases.search(told)), ""
    )
    return "" if kind == "encrypted_reasoning" and _COMPACTION.search(error.message) else kind


def mended(api: Api, body: bytes, kind: str) -> tuple[bytes, str] | None:
    """The body without that kind of thing, or with it in a form that all take, and words for what was
    done. None where there is nothing of it, or where the request would no longer mean the same.
    """
    mend = _MENDS.get(kind)
    root = read(body) if mend is not None else None
    if mend is None or root is None:
        return None
    edits = Edits(body)
    words = mend(api, root, edits)
    return (edits.made(), words) if words and edits else None


# --- thinking ----------------------------------------------------------------------------------------

_THINKING = frozenset({"thinking", "redacted_thinking"})


def _drop_thinking(api: Api, root: Value, edits: Edits) -> str:
    """An assistant message of thinking alone goes as a whole: it said nothing, an empty one is refused,
    and turns of the user that then meet are taken as one.
    """
    if api is not Api.MESSAGES:
        return ""
    messages = root.elements("messages")
    empty: list[int] = []
    dropped = 0
    for message in messages:
        if message.said("role") != "assistant":
            continue
        blocks = message.elements("content")
        if blocks and all(map(_is_thinking, blocks)):
            empty.append(message.start)
        else:
            dropped += edits.drop(blocks, _is_thinking)
    if len(empty) == len(messages):
        return ""
    dropped += edits.drop(messages, lambda message: message.start in empty)
    kept = [message for message in messages if message.start not in empty]
    words = ["thinking blocks dropped"] if dropped else []
    thinking = root.get("thinking")
    if thinking is not None and thinking.said("type") == "enabled" and _demands_thinking(kept):
        edits.drop_members(root, ("thinking",))
        words.append("thinking turned off")
    return ", ".join(words)


def _is_thinking(block: Value) -> bool:
    return block.said("type") in _THINKING


def _demands_thinking(messages: list[Value]) -> bool:
    """Would Anthropic demand that the assistant's last message begin with a block of thinking? It does
    while that turn is not over: in the middle of tool calls, or when it is to be gone on from.
    """
    last = max((i for i, m in enumerate(messages) if m.said("role") == "assistant"), default=-1)
    if last < 0:
        return False
    following = [block for message in messages[last + 1 :] for block in message.elements("content")]
    return last == len(messages) - 1 or any(block.said("type") == "tool_result" for block in following)


# --- OpenAI's responses ----------------------------------------------------------------------------------


def _drop_reasoning(api: Api, root: Value, edits: Edits) -> str:
    """Reasoning goes, and the ids of the answers and calls that came of it: OpenAI refuses one whose
    reasoning it has kept and does not see.
    """
    items = root.elements("input") if api is Api.RESPONSES else []
    kept = [item for item in items if not _is_reasoning(item)]
    if not kept or len(kept) == len(items):
        return ""
    edits.drop(items, _is_reasoning)
    for item in kept:
        if (item.said("id") or "").startswith(("msg_", "fc_", "ctc_")) and item.said(
            "type"
        ) != "item_reference":
            edits.drop_members(item, ("id",))
    return "reasoning items dropped"


def _drop_item_ids(api: Api, root: Value, edits: Edits) -> str:
    """Another provider's ids look otherwise. An item needs none, but for reasoning: that goes as a whole."""
    items = root.elements("input") if api is Api.RESPONSES else []
    kept = [item for item in items if not _is_reasoning(item)]
    if not kept or any(item.said("type") == "item_reference" for item in kept):
        return ""
    edits.drop(items, _is_reasoning)
    for item in kept:
        edits.drop_members(item, ("id",))
    return "item ids dropped"


def _is_reasoning(item: Value) -> bool:
    kind = item.said("type")
    return kind == "reasoning" or (
        kind in ("item_reference", None)
        and item.get("role") is None
        and (item.said("id") or "").startswith("rs_")
    )


def _drop_previous(api: Api, root: Value, edits: Edits) -> str:
    """Only where the input tells the whole conversation: it begins with the user, the assistant speaks in
    it, and every result belongs to a call that it shows.
    """
    if api is not Api.RESPONSES or root.said("previous_response_id") is None:
        return ""
    items = root.elements("input")
    roles = [role for item in items if (role := item.said("role")) not in (None, "system", "developer")]
    calls = {item.said("call_id") for item in items if (item.said("type") or "").endswith("_call")}
    results = {item.said("call_id") for item in items if (item.said("type") or "").endswith("_call_output")}
    if roles[:1] != ["user"] or not ("assistant" in roles or calls) or not results <= calls:
        return ""
    if any(item.said("type") == "item_reference" for item in items):
        return ""
    edits.drop_members(root, ("previous_response_id",))
    return "previous_response_id dropped"


# --- ids of tool calls -----------------------------------------------------------------------------------

_ALPHABET = ascii_letters + digits
_PLAIN_ID = re.compile(r"[a-zA-Z0-9]{9}")


def _rename_calls(api: Api, root: Value, edits: Edits) -> str:
    """Nine letters and digits satisfy everybody. One id always becomes the same other one, so that calls
    and results still belong together, here and in the turns to come.
    """
    for where in _ids(api, root):
        said = where.text()
        if said is not None and not _PLAIN_ID.fullmatch(said):
            edits.replace(where, encode(_plain_id(said)))
    return "tool call ids renamed"


def _ids(api: Api, root: Value) -> list[Value]:
    """Where the ids of calls stand, in calls and in results."""
    found: list[Value | None] = []
    if api is Api.RESPONSES:
        found = [item.get("call_id") for item in root.elements("input")]
    elif api is Api.CHAT:
        for message in root.elements("messages"):
            found += [call.get("id") for call in message.elements("tool_calls")]
            found.append(message.get("tool_call_id"))
    elif api is Api.MESSAGES:
        for message in root.elements("messages"):
            for block in message.elements("content"):
                kind = block.said("type")
                key = {"tool_use": "id", "tool_result": "tool_use_id"}.get(kind or "")
                found.append(block.get(key) if key else None)
    return [value for value in found if value is not None]


def _plain_id(said: str) -> str:
    number = int.from_bytes(hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    letters = []
    for _ in range(9):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


# --- members that strict ones refuse ----------------------------------------------------------------------


def _drop_reasoning_content(api: Api, root: Value, edits: Edits) -> str:
    """What a model thought before its earlier answers: OpenAI's followers tell it, some refuse to hear it."""
    for message in root.elements("messages") if api is Api.CHAT else ():
        if message.said("role") == "assistant":
            edits.drop_members(message, ("reasoning", "reasoning_content", "reasoning_details"))
    return "reasoning dropped"


def _drop_cache_control(api: Api, root: Value, edits: Edits) -> str:
    """Wherever a dialect puts it; never inside a tool's schema or arguments, where it is only a name."""
    places = [root, *root.elements("system"), *root.elements("tools")]
    for message in root.elements("messages"):
        places.append(message)
        for block in message.elements("content"):
            places += [block, *block.elements("content")]
    for place in places:
        edits.drop_members(place, ("cache_control",))
    return "cache_control dropped"


_MENDS: dict[str, Callable[[Api, Value, Edits], str]] = {
    "thinking_signature": _drop_thinking,
    "encrypted_reasoning": _drop_reasoning,
    "reasoning_content": _drop_reasoning_content,
    "item_ids": _drop_item_ids,
    "previous_response": _drop_previous,
    "tool_ids": _rename_calls,
    "cache_control": _drop_cache_control,
}
