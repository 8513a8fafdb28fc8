"""How fast each model is on this machine, learnt from the answers that it gave, and kept in a file."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from gateway.local.mailbox import Finished

log = logging.getLogger(__name__)

_WEIGHT = 0.2  # of the newest observation in the running mean
_LEAST_PROMPT = 32  # tokens; fewer say more of the step than of the speed
_LEAST_ANSWER = 8
_LEAST_BODY = 256  # bytes; of fewer, most are not text
_LEAST_LOAD_BYTES = 64 * 1024 * 1024  # smaller models say nothing of the disk
_MOST = 500  # models that are remembered


class Speed(msgspec.Struct):
    """Tokens per second as one request sees them, beside whatever else runs; None: not known yet."""

    prefill_tps: float | None = None
    decode_tps: float | None = None
    load_s: float | None = None
    answers: int = 0
    bytes_per_token: float | None = None  # of a request's whole body
    size_bytes: int = 0  # on disk, when `load_s` was measured

    def learn(self, event: Finished, rows: int, body_bytes: int = 0) -> None:
        """Take in a finished request. `body_bytes` is the size of its body, 0 where that is not text."""
        self.answers += 1
        if body_bytes >= _LEAST_BODY and event.prompt_tokens > 0:
            self.bytes_per_token = _mean(self.bytes_per_token, body_bytes / event.prompt_tokens)
        computed = event.prompt_tokens - event.cached_tokens
        if rows == 1 and computed >= _LEAST_PROMPT and event.prefill_s > 0:
            self.prefill_tps = _mean(self.prefill_tps, computed / event.prefill_s)
        each = event.completion_tokens / max(1, rows)
        if each >= _LEAST_ANSWER and event.decode_s > 0:
            self.decode_tps = _mean(self.decode_tps, (each - 1) / event.decode_s)


class Speeds:
    """The speed of each model, by its folder's fingerprint: another quantisation is another model."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Speed] = {}
        self._changed = False

    def of(self, fingerprint: str) -> Speed:
        """What is known of a model; reading it changes nothing."""
        return self._known.get(fingerprint, Speed())

    def learn(self, fingerprint: str, event: Finished, rows: int, body_bytes: int = 0) -> None:
        self._known.setdefault(fingerprint, Speed()).learn(event, rows, body_bytes)
        self._changed = True

    def loaded(self, fingerprint: str, seconds: float, size_bytes: int = 0) -> None:
        speed = self._known.setdefault(fingerprint, Speed())
        speed.load_s, speed.size_bytes = round(seconds, 3), size_bytes
        self._changed = True

    def load_rate(self) -> float | None:
        """Bytes per second at which models came into memory here; None: not known yet."""
        sizes = seconds = 0.0
        for speed in self._known.values():
            if speed.load_s and speed.size_bytes >= _LEAST_LOAD_BYTES:
                sizes, seconds = sizes + speed.size_bytes, seconds + speed.load_s
        return sizes / seconds if seconds else None

    def read(self) -> None:
        """Remember what an earlier run has learnt. Blocks; what can't be read is learnt anew."""
        try:
            self._known = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Speed]) | self._known
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the speeds of models can't be read and are measured anew: %s", error)

    def write(self) -> None:
        """Keep what was learnt, if anything was. Blocks."""
        if not self._changed:
            return
        self._changed = False
        latest = dict(list(self._known.items())[-_MOST:])
        part = self._file.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(latest))
            part.replace(self._file)
        except OSError as error:
            log.warning("the speeds of models can't be kept: %s", error.strerror)


def _mean(so_far: float | None, newest: float) -> float:
    return newest if so_far is None else so_far + _WEIGHT * (newest - so_far)
