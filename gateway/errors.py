"""The error tree, split by whose fault it was.

GatewayError
 ├── ConfigError      the operator's file, flag or environment is wrong        (exit 78)
 ├── RefusedError     a change or a command was refused; nothing was changed   (exit 1, HTTP 409)
 │    └── MissingError    the named thing does not exist                       (exit 1, HTTP 404)
 ├── StoreError       the database cannot do what was asked now                (exit 1, HTTP 503)
 ├── SecretError      a secret cannot be opened: wrong master key or a swapped row  (fails closed)
 └── RequestError     a client's request is wrong: status, code and the field  (HTTP 4xx)

A new type needs a caller that reacts differently to it; otherwise raise one of these with a
better sentence. Messages are lower case and say what was expected, what came and what to do.
They never hold a secret or a whole body.
"""

from __future__ import annotations


class GatewayError(Exception):
    """The root: whatever this program itself raises on purpose."""

    @property
    def message(self) -> str:
        return str(self)


class ConfigError(GatewayError):
    """The configuration can't be used; the old one stays."""


class RefusedError(GatewayError):
    """A change was refused as a whole; the state is what it was before."""


class MissingError(RefusedError):
    """The thing that was named does not exist."""


class StoreError(GatewayError):
    """The database is locked, full, broken or newer than this program; `code` is one word for which.

    held: another process owns the home. locked, full, read_only, corrupt, newer, busy, closed: as they
    say. broken: anything else that the database reported.
    """

    def __init__(self, message: str, *, code: str = "broken") -> None:
        super().__init__(message)
        self.code = code


class SecretError(GatewayError):
    """A sealed secret can't be opened; whoever needed it must do without."""


class RequestError(GatewayError):
    """A client's request is refused: what the status, the code and the named field are.

    `kind` is the OpenAI error type; the Anthropic one follows from the status.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.kind = kind
