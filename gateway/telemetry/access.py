"""The access log: one line for every request, made for the eye and for grep.

    12:03:04 info  POST /v1/chat/completions 200 ms=812 ttft_ms=120 model=gpt-4o-mini rule=gpt-4o*
        by=openai/gpt-4o attempts="local/qwen3-8b=overloaded;dur=3, ..." in=12 out=345 id=... (in one line)

What was not known is left out. The path comes without its query, where some clients put a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.config import Telemetry
from gateway.telemetry.finished import Finished

_Write = Callable[[str, str, Iterable[tuple[str, str | int | float | bool | None]]], None]

_write: _Write | None = None


def use(config: Telemetry, write: _Write) -> None:
    """Called by `log.setup`: where lines go, if they are wanted at all."""
    global _write  # noqa: PLW0603 - as global as the log
    wanted = config.access_log and config.log_level in ("debug", "info")
    _write = write if wanted else None


def access(done: Finished) -> None:
    """Write the line of a request that is over; does nothing when the access log is off."""
    if _write is None:
        return
    fields: list[tuple[str, str | int | float | bool | None]] = [("ms", round(done.seconds * 1000))]
    if done.first_content_s is not None:
        fields.append(("ttft_ms", round(done.first_content_s * 1000)))
    for name, value in (
        ("model", done.model),
        ("rule", done.rule),
        ("by", done.served_by),
        ("attempts", done.trace),
    ):
        if value:
            fields.append((name, value))
    if done.usage is not None:
        fields += (("in", done.usage.input_tokens), ("out", done.usage.output_tokens))
        if done.usage.cached_tokens:
            fields.append(("cached", done.usage.cached_tokens))
    if done.client:
        fields.append(("client", done.client))
    if done.continued:
        fields.append(("continued", True))
    if done.broken:
        fields.append(("broken", done.broken))
    fields.append(("id", done.request_id))
    _write("info", f"{done.method} {done.path} {done.status}", fields)
