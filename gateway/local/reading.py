"""Reads the calls to local models: what each asks for, or why it can't be answered here."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import NamedTuple

from gateway.backend import AttemptFailed
from gateway.errors import RequestError
from gateway.failover.outcome import Failure, Outcome
from gateway.local.fields import Unsupported
from gateway.local.options import Asked
from gateway.local.paths import PATHS, read_body

_BIG_BODY = 128 * 1024  # larger ones are read in a thread
_KEPT = 8
_KEPT_BYTES = 4 * 1024 * 1024  # of one body


class _Read(NamedTuple):
    path: str
    data: bytes
    asked: Asked


class Bodies:
    """Bodies as they are read. One that was read for a forecast need not be read again for its call."""

    def __init__(self) -> None:
        self._kept: deque[_Read] = deque(maxlen=_KEPT)

    async def foresee(self, path: str, data: bytes | None) -> Asked:
        """Read it, and keep it for a call that may follow, or for other models; raises AttemptFailed."""
        for kept in self._kept:
            if kept.data == data and kept.path == path:
                return kept.asked
        asked = await self._read(path, data)
        if data is not None and len(data) <= _KEPT_BYTES:
            self._kept.append(_Read(path, data, asked))
        return asked

    async def take(self, path: str, data: bytes | None) -> Asked:
        """Read it for its call; raises AttemptFailed."""
        for kept in self._kept:
            if kept.data == data and kept.path == path:
                self._kept.remove(kept)
                return kept.asked
        return await self._read(path, data)

    async def _read(self, path: str, data: bytes | None) -> Asked:
        read = partial(read_body, path)
        try:
            if data is None:
                raise Unsupported("body", "a body that is streamed can't be answered by a local model")
            if len(data) > _BIG_BODY:
                return await asyncio.to_thread(read, data)
            return read(data)
        except RequestError as error:
            outcome = Outcome.UNSUPPORTED if isinstance(error, Unsupported) else Outcome.CLIENT_FAULT
            raise failed(outcome, str(error), error.status, code=error.code, param=error.param) from error


def model_of(method: str, path: str, model: str | None) -> str:
    """The model that a call names; raises AttemptFailed where local models don't answer such calls."""
    if path not in PATHS or method != "POST":
        message = f"local models don't answer {method} {path}"
        raise failed(Outcome.UNSUPPORTED, message, 400, code="unsupported_path")
    if not model:
        message = "model is missing; name a model"
        raise failed(Outcome.CLIENT_FAULT, message, 400, code="missing_required_parameter", param="model")
    return model


def failed(
    outcome: Outcome, message: str, status: int, *, code: str | None = None, param: str | None = None
) -> AttemptFailed:
    """A refusal of ours."""
    return AttemptFailed(Failure(outcome=outcome, message=message, status=status, code=code, param=param))
