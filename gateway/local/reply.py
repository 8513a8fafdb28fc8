"""A local answer as the relay takes it: the data of events for a stream, or one whole body."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from gateway.backend import AttemptFailed, Framing
from gateway.local.host import Ticket
from gateway.local.mailbox import Called, Delta, Finished, Refused, ToolCall
from gateway.local.output import DONE, Answer


class LocalReply:
    """An answer that the engine has accepted; `aclose` takes it out of the batch within a step."""

    def __init__(
        self,
        ticket: Ticket,
        answer: Answer,
        *,
        stream: bool,
        include_usage: bool,
        cancel: Callable[[Ticket], None],
    ) -> None:
        self._ticket, self._answer, self._cancel = ticket, answer, cancel
        self._include_usage = include_usage
        self.status = 200
        self.framing = Framing.EVENTS if stream else Framing.WHOLE
        kind = "text/event-stream" if stream else "application/json"
        self.headers: tuple[tuple[str, str], ...] = (("content-type", kind),)

    def chunks(self) -> AsyncIterator[bytes]:
        return self._stream() if self.framing is Framing.EVENTS else self._whole()

    async def aclose(self) -> None:
        self._cancel(self._ticket)

    async def _stream(self) -> AsyncIterator[bytes]:
        answer, ticket = self._answer, self._ticket
        yield answer.role()
        while True:
            event = await ticket.take()
            if isinstance(event, Delta):
                text = ticket.more_text(event)
                yield answer.reasoning(text) if event.reasoning else answer.content(text)
            elif isinstance(event, Called):
                yield answer.called(event)
            elif isinstance(event, Finished):
                yield answer.finished(event.reason)
                if self._include_usage:
                    yield answer.usage(event)
                yield DONE
                return
            elif isinstance(event, Refused):
                raise AttemptFailed(event.failure)

    async def _whole(self) -> AsyncIterator[bytes]:
        text: list[str] = []
        reasoning: list[str] = []
        calls: list[ToolCall] = []
        while True:
            event = await self._ticket.take()
            if isinstance(event, Delta):
                (reasoning if event.reasoning else text).append(event.text)
            elif isinstance(event, Called):
                calls.append(event.call)
            elif isinstance(event, Refused):
                raise AttemptFailed(event.failure)
            elif isinstance(event, Finished):
                yield self._answer.whole("".join(text), "".join(reasoning), calls, event)
                return
