"""One try of one target, from its opening to the first content, and on to its end.

Nothing of an attempt reaches the client before its first content: what came earlier is held
here. A whole JSON reply is content only when it is complete and checked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import aiohttp
from aiohttp import web

from gateway.backend import AttemptFailed, Backend, Call, Framing, Reply
from gateway.errors import RequestError
from gateway.failover.command import Content, Ended, Event, Failed
from gateway.failover.outcome import Failure, Outcome, classify
from gateway.failover.plan import Candidate
from gateway.relay.inbound import RESPONSES_API
from gateway.telemetry.redact import without_secrets
from gateway.wire.api import Api
from gateway.wire.failure import WireError
from gateway.wire.sse import heard
from gateway.wire.translate.translation import Translation
from gateway.wire.usage import Usage
from gateway.wire.watch import Seen, StreamWatch
from gateway.wire.whole import check_whole

_log = logging.getLogger(__name__)
_HELD_LIMIT = 1 << 20
_KEPT_LIMIT = 16 << 20
_RESPONSES = "/v1/responses"
_NUMBER = re.compile(rb'"sequence_number"\s*:\s*([0-9]{1,9})')


@dataclass(frozen=True, slots=True)
class Opening:
    """What an attempt is opened with: whom it asks, what, and who makes the client's of the answer.
    `complete` is called when that is all there and has become the client's, before its end is sent.
    """

    backend: Backend
    call: Call
    translation: Translation | None = None
    complete: Callable[[], None] = lambda: None


class Attempt:
    """What is known of one open call. Exactly one of `body` and the stream carries the answer."""

    def __init__(self, number: int, candidate: Candidate, way: Opening, *, reply_limit: int) -> None:
        self.number = number
        self.candidate = candidate
        self.call = call = way.call
        self.translation = way.translation
        self.reply: Reply | None = None
        self.watch: StreamWatch | None = None
        self.body: bytes | None = None  # a whole reply, complete and checked
        self.held: list[bytes] = []  # relayable parts that came before the commit
        self.ended = False  # the stream's terminal event is among what is held
        self.record: list[bytes] | None = [] if call.keep else None  # all that was handed on, framed
        self._committed = False
        self._complete = way.complete
        self._backend = way.backend
        self._reply_limit = reply_limit
        self._chunks: AsyncIterator[bytes] | None = None
        self._late: Failure | None = None  # an error that stood behind the first content
        self._kept = 0
        self._last = b""  # the last part that was handed on
        self._told: Usage | None = None  # what a whole reply said of its tokens

    @property
    def usage(self) -> Usage | None:
        """The tokens as far as they were told, of an answer that broke too."""
        return self._told if self.watch is None else self.watch.usage

    @property
    def is_events(self) -> bool:
        """Is each part the data of one event, rather than bytes that are framed already?"""
        return self.translation is None and self._hears_events

    @property
    def _hears_events(self) -> bool:
        return self.reply is not None and self.reply.framing is Framing.EVENTS

    @property
    def comments_are_safe(self) -> bool:
        """May a comment be put between the parts?"""
        return self.watch is not None and (self.translation is not None or self.watch.comments_are_safe)

    @property
    def next_number(self) -> int:
        """The number of the next event of a response, as far as one can see from what was handed on."""
        found = _NUMBER.findall(self._last)
        return int(found[-1]) + 1 if found else 0

    async def until_content(self, api: Api, *, deadline: float) -> Event:
        """Open the call and read on until there is something of an answer, or none will come."""
        if self.translation is not None:
            api = self.translation.api
        try:
            self.reply = reply = await self._backend.open(self.call, deadline=deadline)
            self._chunks = reply.chunks()
            failure = await self._begin(api, reply)
        except Exception as error:
            failure = self._failure_of(error)
        if failure is None:
            return Content(self.number)
        return Failed(self.number, failure)

    async def _begin(self, api: Api, reply: Reply) -> Failure | None:
        """Read as far as the first content, by the rules of what this is.

        On the calls that answer a prompt the request says what must come, whatever the reply's type
        says: a page of a captive portal is no answer, and a stream under a wrong name is one.
        """
        kind, answers = _content_type(reply), api is not Api.OTHER
        if reply.framing is Framing.EVENTS or kind == "text/event-stream":
            self.watch = StreamWatch(api)
            return await self._first_event(self.watch)
        if answers and self.call.stream:
            if kind != "application/json":
                self.watch = StreamWatch(api)
                return await self._first_event(self.watch)
            return await self._whole(api) or _server_fault("it answered a stream request with a whole reply")
        if reply.framing is Framing.WHOLE or kind == "application/json" or answers:
            return await self._whole(api)
        return await self._first_bytes()  # speech, a file, an image: nothing to look into

    async def rest(self) -> AsyncIterator[bytes]:
        """What follows the first content, ready to be handed on. Raises AttemptFailed on a break."""
        assert self._chunks is not None
        if self._late is not None:
            raise AttemptFailed(self._late)
        if self.ended or self.body is not None:
            return
        try:
            if self.watch is None:
                async for chunk in self._chunks:
                    yield chunk
                return
            watch, events = self.watch, self._hears_events
            async for chunk in self._chunks:
                seen = watch.feed_event(chunk) if events else watch.feed(chunk)
                if seen.ended:
                    self.ended = True
                if part := self._as_client(seen):
                    self._keep(part)
                    self._last = part
                    yield part
                if seen.error is not None:
                    raise AttemptFailed(_of_wire(seen.error))
                if seen.ended:
                    return
        except Exception as error:
            raise AttemptFailed(self._failure_of(error)) from error
        seen = watch.finish()
        if part := self._as_client(seen):
            self._keep(part)
            yield part
        if seen.error is not None:
            raise AttemptFailed(_of_wire(seen.error))

    def commit(self) -> None:
        """Its answer is the client's now, as a whole."""
        self._committed = True
        if self.ended or self.body is not None:
            self._complete()

    def end(self) -> Event:
        return Ended(self.number)

    async def aclose(self) -> None:
        """Stop whatever this attempt started."""
        if self.reply is not None:
            await self.reply.aclose()

    def _failure_of(self, error: Exception) -> Failure:
        """What was raised, as a failure: nothing else comes out of an attempt."""
        if isinstance(error, AttemptFailed):
            return self._in_our_words(error.failure)
        # The backends tell all that happens on their side, so what comes as it is comes from the
        # request's own body, on its way through.
        if isinstance(error, RequestError):
            return _client_fault(error.message, error.status, error.code)
        if isinstance(error, (aiohttp.ClientError, web.RequestPayloadError, ConnectionError)):
            return _client_fault("the request's body broke off", 400, "incomplete_body")
        # The supervisor of an attempt: a fault of ours must end in an answer, not in silence.
        _log.error("attempt %s failed inside the gateway", self.candidate.label, exc_info=error)
        return _server_fault("the gateway failed while it handled this target")

    def _in_our_words(self, failure: Failure) -> Failure:
        if self.translation is not None:
            return replace(failure, body=None, headers=())  # it speaks a dialect that the client does not
        lacks_api = self.call.path == _RESPONSES and failure.status in (404, 405, 501)
        if lacks_api and failure.outcome in (Outcome.CLIENT_FAULT, Outcome.UNSUPPORTED) and not failure.mend:
            return replace(failure, mend=RESPONSES_API)
        return failure

    async def _first_event(self, watch: StreamWatch) -> Failure | None:
        assert self._chunks is not None
        size = 0
        events = self._hears_events
        async for chunk in self._chunks:
            seen = watch.feed_event(chunk) if events else watch.feed(chunk)
            size += len(seen.relay)
            if part := self._as_client(seen):
                self.held.append(part)
                self._keep(part)
                self._last = part
            if seen.content or seen.ended:
                # An error behind the content, in the same chunk, is met after the commit.
                self._late = None if seen.error is None else _of_wire(seen.error)
                self.ended = seen.ended
                return None
            if seen.error is not None:
                return _of_wire(seen.error)
            if size > _HELD_LIMIT:
                return _server_fault("the stream sent a megabyte without any content")
        seen = watch.finish()
        if seen.error is not None:
            return _of_wire(seen.error)
        if part := self._as_client(seen):
            self.held.append(part)
            self._keep(part)
        self.ended = True
        return None

    def _as_client(self, seen: Seen) -> bytes:
        """What the client gets of it: the same, or what a translator makes of it."""
        translation = self.translation
        if translation is None:
            return seen.relay
        said = b""
        if seen.relay and self._hears_events:
            said = translation.event(seen.relay, None)
        elif seen.relay:
            event = translation.event
            said = b"".join([event(data, name) for data, name in heard(seen.relay)])
        if not seen.ended:
            return said
        said += translation.end()
        if self._committed and seen.error is None:
            self._complete()
        return said

    def _keep(self, part: bytes) -> None:
        """Remember what the client gets, in case somebody has to go on with it; not without end."""
        if self.record is None:
            return
        self._kept += len(part)
        if self._kept > _KEPT_LIMIT:
            self.record = None
        else:
            self.record.append(b"data: " + part + b"\n\n" if self.is_events else part)

    async def _whole(self, api: Api) -> Failure | None:
        assert self._chunks is not None
        parts: list[bytes] = []
        size = 0
        async for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > self._reply_limit:
                return _server_fault(f"the reply is larger than {self._reply_limit >> 20} MB")
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        checked = check_whole(api, body)
        if checked.error is not None:
            return _of_wire(checked.error)
        self._told = checked.usage
        self.body = body if self.translation is None else self.translation.whole(body)
        return None

    async def _first_bytes(self) -> Failure | None:
        assert self._chunks is not None
        async for chunk in self._chunks:
            if chunk:
                self.held.append(chunk)
                return None
        self.ended = True
        return None


def _content_type(reply: Reply) -> str:
    for name, value in reply.headers:
        if name == "content-type":
            return value.partition(";")[0].strip().lower()
    return ""


def _of_wire(error: WireError) -> Failure:
    """What an error inside a 200 means. The target's own words are kept, because the client can be
    shown nothing else of them: such a reply is not passed on as it is.
    """
    failure = classify(status=200, error=error, headers={}, now_wall=None)
    told = failure.message
    if error.message not in told:
        told = f"{told}: {error.message}"
    return replace(failure, message=without_secrets(told))


def _client_fault(message: str, status: int, code: str | None) -> Failure:
    return Failure(outcome=Outcome.CLIENT_FAULT, message=message, status=status, code=code)


def _server_fault(message: str, *, code: str | None = None) -> Failure:
    return Failure(outcome=Outcome.SERVER_FAULT, message=message, code=code)
