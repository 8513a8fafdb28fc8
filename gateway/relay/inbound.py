"""A client's request as it is relayed: what it asks for, and its body untouched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gateway.backend import RequestBody
from gateway.relay.upload import Upload
from gateway.wire.api import Api
from gateway.wire.artefacts import mended
from gateway.wire.body import JsonBody
from gateway.wire.dialect import Dialect

# Named in `Failure.mend` where an upstream turns out not to have the Responses API.
RESPONSES_API = "responses_api"


class Bytes:
    """A body that is in memory; it can be sent as often as needed."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def size(self) -> int:
        return len(self.data)

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """One request of a client. `path` begins with /v1/; `upstream` is set when the client named
    the upstream itself (/upstreams/NAME/...), and then no other is tried.
    """

    request_id: str
    method: str
    path: str
    query: str
    dialect: Dialect
    api: Api
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: JsonBody | Upload | None = field(repr=False)
    client: str = ""  # the name of the client key
    upstream: str | None = None

    @property
    def model(self) -> str | None:
        return self.body.model if self.body is not None else None

    @property
    def stream(self) -> bool:
        return isinstance(self.body, JsonBody) and self.body.stream

    def without(self, what: str, data: bytes) -> tuple[bytes, str] | None:
        """`data`, which is its body, without what a target refused, and how to say that in a header; None
        where it can't do without.
        """
        if what == RESPONSES_API:
            return (data, "") if self.api is Api.RESPONSES else None  # it is asked in another API
        return mended(self.api, data, what)

    def may_do_without(self, what: str) -> bool:
        """Is there any use in asking a target once more that has refused this?"""
        return isinstance(self.body, JsonBody) and self.without(what, self.body.data) is not None

    def body_for(self, model: str) -> RequestBody | None:
        """The body with `model` in place of the name that came; the same bytes if it is that name."""
        match self.body:
            case None:
                return None
            case Upload() as upload:
                return upload.renamed(model) if upload.model is not None else upload
            case JsonBody() as body:
                renamed = body.model is not None and body.model != model
                return Bytes(body.renamed(model) if renamed else body.data)

    def replayable(self) -> bool:
        """Can the body be sent once more from its start?"""
        return not isinstance(self.body, Upload) or self.body.replayable
