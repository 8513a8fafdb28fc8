"""A call that asks for nothing but the number of its prompt's tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from gateway.backend import AttemptFailed, Framing
from gateway.errors import RequestError
from gateway.failover.outcome import Failure, Outcome
from gateway.local.chat import read_chat
from gateway.local.host import Host
from gateway.local.mailbox import Finished, ModelFolder
from gateway.local.options import Asked
from gateway.local.request import Count, Generate


class CountReply:
    """The number, in Anthropic's words."""

    status = 200
    framing = Framing.WHOLE
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    trail: tuple[int, ...] | None = None

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    async def chunks(self) -> AsyncIterator[bytes]:
        yield msgspec.json.encode({"input_tokens": self._tokens})

    async def aclose(self) -> None:
        """It is complete from the start."""


def read_count(body: bytes) -> Asked:
    """Read the chat whose prompt is to be counted; raise RequestError or Unsupported naming the field."""
    asked = read_chat(body)
    if asked.stream:
        raise RequestError("stream: a count comes in one piece", param="stream")
    assert isinstance(asked.work, Generate)
    return Asked(work=Count(work=asked.work, bounded=False))


async def counted(host: Host, folder: ModelFolder, work: Count, deadline: float) -> CountReply:
    """Ask the engine, which loads no model for that; raises AttemptFailed, also at `deadline` (loop time)."""
    ticket = host.ticket(folder, work.rows)
    cancel = host.count(ticket, work)
    try:
        async with asyncio.timeout_at(deadline):
            return CountReply((await ticket.until(Finished)).prompt_tokens)
    except TimeoutError as error:
        message = f"the tokens for local model {folder.name} were not counted in time"
        raise AttemptFailed(Failure(outcome=Outcome.SLOW, message=message, status=504)) from error
    finally:
        cancel()
