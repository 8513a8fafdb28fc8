"""The log: one readable line, or one JSON object, for everything that happens here and in the libraries.

    _log = logging.getLogger(__name__)
    _log.info("upstream is back", extra={"upstream": name, "after_s": 31})

    12:03:04 info  upstream is back upstream=openai after_s=31

`setup` puts one handler on the root logger. Whoever logs, whatever it says: it is escaped, so that it
stays one line, and goes through `redact`, so that it holds no key. There is no second way out.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TextIO

from gateway.config import Telemetry
from gateway.telemetry.redact import redact
from gateway.telemetry.sink import Sink

# What every record has; all else came with `extra`.
_OURS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_QUIET = ("aiohttp.access", "asyncio", "filelock", "huggingface_hub", "urllib3", "httpx")
_BARE = re.compile(r"[!#-<>-~]+")  # visible ASCII without quotes and equals signs

Value = str | int | float | bool | None


class Format:
    """How a line looks. Stateless; text and JSON hold the same fields."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def line(
        self, at: float, level: str, message: str, fields: Iterable[tuple[str, Value]], trouble: str = ""
    ) -> str:
        """One line, redacted. `trouble` is a traceback: in text it follows, indented."""
        if self.as_json:
            whole: dict[str, Value] = {"at": _utc(at), "level": level, "message": message}
            for name, value in fields:
                whole.setdefault(name, value)
            if trouble:
                whole["traceback"] = trouble
            return redact(json.dumps(whole, ensure_ascii=False, default=str))
        parts = [f"{_clock(int(at))} {level:<5} {_one_line(message)}"]
        parts += [f"{name}={shown(value)}" for name, value in fields]
        line = redact(" ".join(parts))
        if trouble:
            line += "\n" + redact("\n".join("    " + _one_line(row) for row in trouble.rstrip().splitlines()))
        return line


class _Handler(logging.Handler):
    """Turns records into lines and hands them to the sink."""

    def __init__(self, form: Format, sink: Sink) -> None:
        super().__init__()
        self.form = form
        self.sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.sink.put(self._line(record))
        except Exception:  # a line that can't be made is no reason to fail what it was about
            self.handleError(record)

    def flush(self) -> None:
        self.sink.flush()

    def close(self) -> None:
        self.sink.close()
        super().close()

    def _line(self, record: logging.LogRecord) -> str:
        trouble = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        fields = [(name, _value(value)) for name, value in vars(record).items() if name not in _OURS]
        if not record.name.startswith("gateway"):
            fields.append(("logger", record.name))
        return self.form.line(record.created, _level(record.levelno), record.getMessage(), fields, trouble)


_handler: _Handler | None = None


def setup(config: Telemetry, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (standard error) as `config` says. May be called again at any time."""
    global _handler  # noqa: PLW0603 - the root logger is global, and so is what is on it
    form = Format(as_json=config.log_format == "json")
    out = stream or sys.stderr
    old = _handler
    if old is not None and old.sink.stream is out:
        old.form = form
    else:
        _handler = _Handler(form, Sink(out, lost=_lost))
        logging.root.addHandler(_handler)
        if old is not None:
            logging.root.removeHandler(old)
            old.close()
    logging.root.setLevel(config.log_level.upper())
    for name in _QUIET:
        # Libraries tell at info what we tell better, or what nobody asked.
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
    from gateway.telemetry import access

    access.use(config, write)


def write(level: str, message: str, fields: Iterable[tuple[str, Value]]) -> None:
    """A line without a record, for what is written once per request."""
    if _handler is not None:
        _handler.sink.put(_handler.form.line(time.time(), level, message, fields))


def flush(within: float = 1.0) -> bool:
    """Wait until all lines are out, but not for ever; are they?"""
    return _handler is None or _handler.sink.flush(within)


def close() -> None:
    """Write what is left and take the handler away; what is logged afterwards goes nowhere of ours."""
    global _handler  # noqa: PLW0603 - as in setup
    if _handler is not None:
        logging.root.removeHandler(_handler)
        _handler.close()
        _handler = None


def shown(value: Value) -> str:
    """A value in a text line: bare where that is clear, else in quotes with escapes."""
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _lost(count: int) -> str:
    fields: Mapping[str, Value] = {"lines": count}
    form = _handler.form if _handler is not None else Format(as_json=False)
    return form.line(time.time(), "error", "log lines were dropped: nobody read them", fields.items())


def _value(value: object) -> Value:
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _level(number: int) -> str:
    for least, name in ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info")):
        if number >= least:
            return name
    return "debug"


def _one_line(message: str) -> str:
    """The message with whatever could end the line, or paint the terminal, escaped."""
    if message.isprintable():
        return message
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in message)


@lru_cache(maxsize=4)
def _clock(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _utc(at: float) -> str:
    return f"{_second(int(at))}.{int(at % 1 * 1000):03d}Z"
