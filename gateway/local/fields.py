"""PURE: readers of single JSON values that say which field was wrong, what was expected and what came."""

from __future__ import annotations

import math
from typing import Any

from gateway.errors import RequestError


class Unsupported(RequestError):  # noqa: N818 - it is an outcome on its way, not a program's error
    """The field is right, but the local engine can't honour it; another target might."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, code="unsupported_parameter", param=field)


def wrong(name: str, expected: str, value: Any) -> RequestError:
    """The refusal of a value of the wrong type."""
    return RequestError(f"{name} must be {expected}, not {_shown(value)}", code="invalid_type", param=name)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, "true or false", value)
    return value


def integer(name: str, value: Any, *, low: int, high: int = 2**31 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(name, "a whole number", value)
    _in_range(name, value, low, high)
    return value


def number(name: str, value: Any, *, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(name, "a number", value)
    _in_range(name, value, low, high)
    return float(value)


def array(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise wrong(name, "a list", value)
    return value


def table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(name, "an object", value)
    return value


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(name, "a string", value)
    return value


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or math.isnan(value):
        bounds = f"at least {low:g}" if high == 2**31 - 1 else f"between {low:g} and {high:g}"
        raise RequestError(
            f"{name} must be {bounds}, not {str(value)[:40]}", code="invalid_value", param=name
        )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    shown = str(value)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    return repr(shown) if isinstance(value, str) else shown
