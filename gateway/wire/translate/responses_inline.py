"""PURE: a request whose earlier turns stand in its own input, for a target that has never seen them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.wire.spans import Edits, Value, read
from gateway.wire.translate.responses_fields import Json

_PREVIOUS = "previous_response_id"


def inlined(body: bytes, history: Sequence[Json]) -> bytes:
    """The body of a request with these items in front of its input and without `previous_response_id`; all
    else stays byte for byte. `body` is proven JSON, an object that has that member.
    """
    root = read(body)
    assert root is not None
    edits = Edits(body)
    before = b",".join(msgspec.json.encode(item) for item in map(_as_input, history) if item)
    given, previous = root.get("input"), root.get(_PREVIOUS)
    assert previous is not None
    if given is None:
        edits.replace(Value(body, previous.at, previous.end), b'"input":[' + before + b"]")
        return edits.made()
    edits.drop_members(root, (_PREVIOUS,))
    if given.is_array:
        joint = b"," if before and given.children() else b""
        edits.insert(given.start + 1, before + joint)
    elif given.raw == b"null":
        edits.replace(given, b"[" + before + b"]")
    else:
        asked = b'{"role":"user","content":' + given.raw + b"}"
        edits.replace(given, b"[" + b",".join(filter(None, (before, asked))) + b"]")
    return edits.made()


def _as_input(item: Json) -> Json | None:
    """Ids are nothing to who did not give them, and no item needs one but reasoning, which only its maker can
    read unless it is encrypted.
    """
    if item.get("type") == "reasoning":
        return item if item.get("encrypted_content") else None
    return {name: value for name, value in item.items() if name != "id"}
