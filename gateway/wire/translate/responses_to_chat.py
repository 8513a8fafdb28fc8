"""PURE: a client of OpenAI's Responses API, answered by a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType

import msgspec

from gateway.wire.api import Api
from gateway.wire.translate.responses_chunk import Chunk, read_chunk
from gateway.wire.translate.responses_fields import Changes, Json
from gateway.wire.translate.responses_inputs import named_items
from gateway.wire.translate.responses_names import Names
from gateway.wire.translate.responses_reply import ReplyForm
from gateway.wire.translate.responses_request import RequestReader
from gateway.wire.translate.responses_stream import AnswerStream

_NOTHING: Mapping[str, Json] = MappingProxyType({})


class ResponsesToChat:
    """A `Translation` (see there). After the end, `response` is the whole response object.

    `history` are the items in front of the request (see `responses_history`), None where nobody has
    looked them up: a `previous_response_id` is refused then. `referenced` are the items that the
    request names by id alone. `created` is in seconds since 1970. `keeps_reasoning` hands earlier
    reasoning on as `reasoning_content`: the local engine takes it, many clouds refuse it.
    `limit_field` is what the target calls the longest answer, `refuses` what it must not be sent.
    """

    api = Api.CHAT
    path = "/v1/chat/completions"

    def __init__(
        self,
        *,
        response_id: str,
        created: float,
        history: Sequence[Json] | None = None,
        referenced: Mapping[str, Json] = _NOTHING,
        keeps_reasoning: bool = False,
        limit_field: str = "max_completion_tokens",
        refuses: Set[str] = frozenset(),
    ) -> None:
        self._id = response_id
        self._created = created
        self._changes = Changes()
        self._reader = RequestReader(
            self._changes,
            history=history,
            referenced=referenced,
            keeps_reasoning=keeps_reasoning,
            limit_field=limit_field,
        )
        self._refuses = refuses
        self._answer: AnswerStream | None = None
        self.changed: tuple[str, ...] = ()
        self.input_items: list[Json] = []  # of this request alone, as they are kept: with ids

    def request(self, body: bytes) -> bytes:
        """See `Translation`; a RequestError where the request is wrong for any target."""
        read = self._reader.read(body)
        names = Names(self._id)
        for name in self._refuses & read.fields.keys():
            del read.fields[name]
            if name in read.asked:
                self._changes.note(name)
        self.changed = self._changes.names
        self.input_items = named_items(read.items, names)
        form = ReplyForm(read.asked, response_id=self._id, created=self._created)
        self._answer = AnswerStream(form, names, read.tooling)
        return msgspec.json.encode(read.fields)

    def whole(self, body: bytes) -> bytes:
        answer = self._answering()
        answer.take(read_chunk(body) or Chunk())
        answer.end()
        return msgspec.json.encode(answer.response)

    def event(self, data: bytes, name: str | None) -> bytes:
        chunk = read_chunk(data)
        return b"" if chunk is None else self._answering().take(chunk)

    def end(self) -> bytes:
        return self._answering().end()

    @property
    def response(self) -> Json | None:
        """The response object once the answer has ended, to be kept."""
        return None if self._answer is None else self._answer.response

    @property
    def output_items(self) -> list[Json]:
        """Its items, once the answer has ended."""
        response = self.response
        return [] if response is None else response["output"]

    def _answering(self) -> AnswerStream:
        assert self._answer is not None, "the request comes first"
        return self._answer
