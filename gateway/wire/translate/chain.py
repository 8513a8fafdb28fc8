"""PURE: two translators one behind the other."""

from __future__ import annotations

from gateway.wire.sse import heard
from gateway.wire.translate.translation import Translation


class Chain:
    """A Translation: `outer` faces the client, `inner` the target."""

    def __init__(self, outer: Translation, inner: Translation) -> None:
        self.api = inner.api
        self.path = inner.path
        self.changed: tuple[str, ...] = ()
        self.outer = outer
        self._inner = inner

    def request(self, body: bytes) -> bytes:
        made = self._inner.request(self.outer.request(body))
        self.changed = tuple(dict.fromkeys((*self.outer.changed, *self._inner.changed)))
        return made

    def whole(self, body: bytes) -> bytes:
        return self.outer.whole(self._inner.whole(body))

    def event(self, data: bytes, name: str | None) -> bytes:
        return self._outward(self._inner.event(data, name))

    def end(self) -> bytes:
        return self._outward(self._inner.end()) + self.outer.end()

    def _outward(self, framed: bytes) -> bytes:
        if not framed:
            return b""
        said = self.outer.event
        return b"".join([said(data, name) for data, name in heard(framed)])
