"""PURE: the words between a session and its shell: events go in, commands come out.

Attempts are numbered from 1 in the order they are opened, whatever their target.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.failover.outcome import Failure
from gateway.failover.plan import Candidate
from gateway.failover.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Open:
    """Start attempt `number`; it has until `until` to show its first content."""

    number: int
    candidate: Candidate
    until: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop attempt `number` at once, wherever it stands; nothing it still says is wanted."""

    number: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Attempt `number` answers the client: send the head and what it held, then relay."""

    number: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing is left to try and nothing was committed: answer with the verdict."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Break:
    """The committed attempt broke: say so in the stream, in the client's dialect, and end."""

    number: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Done:
    """The committed attempt ended as it should."""

    number: int


@dataclass(frozen=True, slots=True)
class Content:
    """First content of a stream, or a whole reply that is complete and was found sound."""

    number: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Attempt `number` is over without success, before or after commit."""

    number: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Ended:
    """Attempt `number` came to its proper end. Without a `Content` before it the answer is
    complete and empty, which is an answer: it is committed and done in one.
    """

    number: int


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """Nobody is waiting any more."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that `Session.timer` named has come (or some other time: it does no harm)."""


Command = Open | Cancel | Commit | GiveUp | Break | Done
Event = Content | Failed | Ended | ClientLeft | Tick
