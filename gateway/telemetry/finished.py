"""What is known of a request when it is over: the one value that access log and metrics are fed with.

It holds no prompt, no answer, no header and no address.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.failover.outcome import Outcome
from gateway.wire.usage import Usage


class Finished(NamedTuple):
    """One request's end. Durations are seconds."""

    request_id: str
    method: str
    path: str  # without the query
    status: int  # as the client saw it; 499 when it left
    seconds: float
    stream: bool = False
    client: str = ""  # the name of the client key
    model: str = ""  # as the client named it
    rule: str = ""
    served_by: str = ""  # e.g. openai/gpt-4o; empty when nobody answered
    trace: str = ""  # the attempts in words, as in x-gateway-attempts
    attempts: tuple[tuple[str, Outcome], ...] = ()  # label and outcome of each that has ended
    first_content_s: float | None = None
    usage: Usage | None = None
    broken: str = ""  # why it broke after its first content had been sent
    other_usage: Usage | None = None  # of attempts that did not serve, such as the one that lost a race
    lost: tuple[str, ...] = ()  # labels of attempts that were stopped because another one was faster
    continued: bool = False  # who served went on where another had broken off
