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
    """Start attempt `number`; it has until `until` to show its first content. `mend` names what is to be
    left out of the request because this target has refused it.
    """

    number: int
    candidate: Candidate
    until: float
    mend: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop attempt `number` at once, wherever it stands; nothing it still says is wanted."""

    number: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Attempt `number` answers the client: send the head and what it held, then relay. After a
    `Continue` it is the one that goes on.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Continue:
    """Start attempt `number` to go on where the committed attempt `of` broke off. `exact`: it is the same
    model of the local pool, which can go on from the very tokens.
    """

    number: int
    candidate: Candidate
    until: float
    of: int
    exact: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing is left to try and nothing was committed: answer with the verdict."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Break:
    """The committed attempt broke and nobody goes on: say so in the stream, in the client's dialect, and
    end.
    """

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
    """Attempt `number` is over without success, before or after commit. `mendable`: the request can do
    without what `failure.mend` names. `resumable`: what was sent can be gone on with.
    """

    number: int
    failure: Failure
    mendable: bool = False
    resumable: bool = False


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


Command = Open | Continue | Cancel | Commit | GiveUp | Break | Done
Event = Content | Failed | Ended | ClientLeft | Tick
