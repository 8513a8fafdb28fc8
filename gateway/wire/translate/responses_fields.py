"""PURE: single values of a request to the Responses API, and a note of what of it was changed."""

from __future__ import annotations

from typing import Any

from gateway.errors import RequestError

Json = dict[str, Any]


class Changes:
    """The fields that were changed or dropped, each once, in the client's words.

    Items and parts are named without their place (`input[].phase`): a long conversation has no long list.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def note(self, name: str) -> None:
        self._names[name] = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)


def table(path: str, value: Any) -> Json:
    if not isinstance(value, dict):
        raise _wrong(path, "an object", value)
    return value


def array(path: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(path, "a list", value)
    return value


def text(path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(path, "a string", value)
    return value


def _wrong(path: str, wanted: str, value: Any) -> RequestError:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    came = kinds.get(type(value), "a number")
    return RequestError(f"{path} must be {wanted}, not {came}", code="invalid_type", param=path)
