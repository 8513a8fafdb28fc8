"""How a target is asked: in the client's own words where it understands them, else through a translator.

What goes to a target of the client's own API stays byte for byte as it came, but for the name of the
model. Everything else is `wire.translate`'s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from gateway.backend import RequestBody
from gateway.errors import RequestError
from gateway.failover.ability import Ability
from gateway.local.paths import COUNT
from gateway.local.paths import PATHS as LOCAL_PATHS
from gateway.relay.inbound import RESPONSES_API, Bytes, Inbound
from gateway.relay.kept import Kept
from gateway.snapshot import Upstream
from gateway.wire.api import Api
from gateway.wire.body import JsonBody, read_json
from gateway.wire.dialect import Dialect
from gateway.wire.spoken import Spoken, continued_body
from gateway.wire.translate.chain import Chain
from gateway.wire.translate.chat_to_messages import ChatToMessages
from gateway.wire.translate.count_to_chat import CountToChat
from gateway.wire.translate.habits import LOCAL, Habits, habits_of
from gateway.wire.translate.messages_to_chat import MessagesToChat
from gateway.wire.translate.responses_history import Turn, items_before, named_in
from gateway.wire.translate.responses_inline import inlined
from gateway.wire.translate.responses_to_chat import ResponsesToChat
from gateway.wire.translate.translation import Translation

# Fields of a head that mean something to their own provider alone.
_OF_A_DIALECT = ("anthropic-", "openai-", "x-stainless-", "x-api-", "authorization")
_VERSION = ("anthropic-version", "2023-06-01")
_PREVIOUS = b"previous_response_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A request as one target is asked it, and who makes the client's of the answer."""

    path: str
    query: str
    dialect: Dialect
    headers: tuple[tuple[str, str], ...]
    body: RequestBody | None
    changed: tuple[str, ...] = ()
    translation: Translation | None = None


class Speaker:
    """Finds the words for each target."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def words(
        self,
        inbound: Inbound,
        model: str,
        upstream: Upstream | None,
        ability: Ability,
        *,
        mend: Sequence[str] = (),
        said: Spoken | None = None,
    ) -> Words:
        """The request for `model` of an upstream, or of the local pool. `mend`: what the target has
        refused. `said`: what the client has of the answer already. Raises RequestError where there are no
        words for it.
        """
        target = spoken_api(inbound, upstream, ability, mend)
        known = self._known_before(inbound) if target is None else None
        inbound, changed = _mended(inbound if known is None else self._told(inbound, known), mend, said)
        if target is None:
            return Words(
                path=inbound.path,
                query=inbound.query,
                dialect=inbound.dialect,
                headers=inbound.headers,
                body=inbound.body_for(model),
                changed=changed if known is None else ("previous_response_id", *changed),
            )
        habits = LOCAL if upstream is None else habits_of(urlsplit(upstream.base_url).hostname or "", model)
        translation = self._translation(inbound, target, habits, local=upstream is None)
        body = inbound.body_for(model)
        assert body is not None and body.data is not None
        data = translation.request(body.data)
        dialect = Dialect.ANTHROPIC if target is Api.MESSAGES else Dialect.OPENAI
        return Words(
            path=translation.path,
            query="",
            dialect=dialect,
            headers=_headers(inbound, dialect),
            body=Bytes(data),
            changed=(*changed, *translation.changed),
            translation=translation,
        )

    def check(self, inbound: Inbound, model: str, upstream: Upstream, ability: Ability) -> None:
        """Raises RequestError where there are no words for an upstream; cheap where they are the client's."""
        if spoken_api(inbound, upstream, ability) is not None or self._known_before(inbound) is not None:
            self.words(inbound, model, upstream, ability)

    def _known_before(self, inbound: Inbound) -> str | None:
        """The response that a request goes on from, if it was made here: no upstream has heard of it."""
        body = inbound.body
        if inbound.api is not Api.RESPONSES or not isinstance(body, JsonBody) or _PREVIOUS not in body.data:
            return None
        previous = named_in(body.data).previous
        known = previous is not None and self._kept.knows(previous, inbound.client)
        return previous if known else None

    def _told(self, inbound: Inbound, previous: str) -> Inbound:
        """The request with the whole conversation in its input."""
        assert isinstance(inbound.body, JsonBody)
        history = items_before(previous, lambda name: self._kept.turn(name, inbound.client))
        return replace(inbound, body=read_json(inlined(inbound.body.data, history)))

    def keep(self, inbound: Inbound, translation: Translation | None) -> None:
        """Remember the response that a translator has made, if the client did not forbid it."""
        while isinstance(translation, Chain):
            translation = translation.outer
        if not isinstance(translation, ResponsesToChat) or not isinstance(inbound.body, JsonBody):
            return
        named, response = named_in(inbound.body.data), translation.response
        if response is None or not named.keeps:
            return
        turn = Turn(
            response_id=response["id"],
            previous=named.previous,
            input_items=translation.input_items,
            output_items=translation.output_items,
        )
        self._kept.keep(inbound.client, turn, response)

    def _translation(self, inbound: Inbound, target: Api, habits: Habits, *, local: bool) -> Translation:
        created = int(time.time())
        match inbound.api, target:
            case Api.MESSAGES, Api.CHAT:
                return MessagesToChat(local=local, **habits._asdict())
            case Api.OTHER, Api.CHAT:
                return CountToChat()
            case Api.CHAT, Api.MESSAGES:
                return ChatToMessages(created=created)
            case Api.RESPONSES, Api.CHAT:
                return self._responses(inbound, created, habits)
            case Api.RESPONSES, Api.MESSAGES:
                return Chain(self._responses(inbound, created, Habits()), ChatToMessages(created=created))
        raise AssertionError(f"nobody translates {inbound.api} to {target}")

    def _responses(self, inbound: Inbound, created: int, habits: Habits) -> ResponsesToChat:
        assert isinstance(inbound.body, JsonBody)
        named, client = named_in(inbound.body.data), inbound.client
        history = []
        if named.previous is not None:
            history = items_before(named.previous, lambda name: self._kept.turn(name, client))
        return ResponsesToChat(
            response_id=f"resp_{inbound.request_id.removeprefix('req_')}",
            created=created,
            history=history,
            referenced=self._kept.items(named.item_ids, client),
            keeps_reasoning=habits.thoughts,
            limit_field=habits.limit_field,
            refuses=habits.refuses,
        )


def spoken_api(
    inbound: Inbound, upstream: Upstream | None, ability: Ability, mend: Sequence[str] = ()
) -> Api | None:
    """The API that a target has to be asked in, None for the client's own. Raises RequestError where a
    target of another dialect has nothing like it.
    """
    api = inbound.api
    if upstream is None:
        counts = inbound.path == COUNT and inbound.method == "POST"
        if counts or api in (Api.MESSAGES, Api.RESPONSES):
            return Api.CHAT
        if inbound.path in LOCAL_PATHS and inbound.method == "POST":
            return None
        raise RequestError(
            f"local models don't answer {inbound.method} {inbound.path}", code="unsupported_path"
        )
    # Who names the upstream, or no model, knows what it speaks: some speak both, on paths of their own.
    if inbound.upstream is not None or inbound.model is None:
        return None
    if upstream.dialect is inbound.dialect:
        lacks = ability.responses is False or RESPONSES_API in mend
        return Api.CHAT if api is Api.RESPONSES and lacks else None
    if upstream.dialect is Dialect.OPENAI and api is Api.MESSAGES:
        return Api.CHAT
    if upstream.dialect is Dialect.ANTHROPIC and api in (Api.CHAT, Api.RESPONSES):
        return Api.MESSAGES
    raise RequestError(
        f"{upstream.name} speaks the {upstream.dialect} dialect, which has nothing like "
        f"{inbound.method} {inbound.path}",
        code="unsupported_path",
    )


def _mended(inbound: Inbound, mend: Sequence[str], said: Spoken | None) -> tuple[Inbound, tuple[str, ...]]:
    """The request without what a target refused, and with what was said of its answer."""
    if not isinstance(inbound.body, JsonBody) or not (mend or said):
        return inbound, ()
    data, changed = inbound.body.data, []
    for what in mend:
        found = inbound.without(what, data)
        if found is not None:
            data, words = found
            changed.append(words)
    if said is not None:
        data = continued_body(inbound.api, data, said)
    return replace(inbound, body=read_json(data)), tuple(word for word in changed if word)


def _headers(inbound: Inbound, dialect: Dialect) -> tuple[tuple[str, str], ...]:
    kept = tuple(field for field in inbound.headers if not field[0].lower().startswith(_OF_A_DIALECT))
    return (*kept, _VERSION) if dialect is Dialect.ANTHROPIC else kept
