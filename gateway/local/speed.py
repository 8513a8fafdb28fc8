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
_MOST = 500  # models that are remembered


class Speed(msgspec.Struct):
    """Tokens per second as one request sees them, beside whatever else runs; None: not known yet."""

    prefill_tps: float | None = None
    decode_tps: float | None = None
    load_s: float | None = None
    answers: int = 0

    def learn(self, event: Finished, rows: int) -> None:
        """Take in a finished request."""
        self.answers += 1
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

    def learn(self, fingerprint: str, event: Finished, rows: int) -> None:
        self._known.setdefault(fingerprint, Speed()).learn(event, rows)
        self._changed = True

    def loaded(self, fingerprint: str, seconds: float) -> None:
        self._known.setdefault(fingerprint, Speed()).load_s = round(seconds, 3)
        self._changed = True

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
