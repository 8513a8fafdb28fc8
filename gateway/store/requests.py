"""The rows of the request ledger: written in batches, read newest first, pruned in small steps.

Who asked for what, who answered, how often it was tried, how long it took. Never a prompt, an
answer or a header; a key that somebody pasted where a name belongs is starred out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import peewee

from gateway.store import sql
from gateway.store.models import RequestRow
from gateway.telemetry.finished import Finished
from gateway.telemetry.redact import redact

Row = tuple[object, ...]

_COLUMNS = (
    *("at", "request_id", "client", "method", "path", "model", "rule", "served_by", "attempts"),
    *("status", "stream", "seconds", "first_content_s"),
    *("input_tokens", "output_tokens", "cached_tokens", "broken"),
    *("other_input_tokens", "other_output_tokens"),
)
_INSERT = f"INSERT INTO requests ({', '.join(_COLUMNS)}) VALUES "  # noqa: S608 - our own column names
_PLACES = f"({', '.join('?' * len(_COLUMNS))})"
_AT_ONCE = 100  # rows of one statement: beyond it nothing is gained
_LONGEST = 512  # characters of a text; a path or a trace may have any length
_MOST_TOKENS = 2**53  # upstreams report what they like


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request. `at` is the Unix time of its end; what wasn't known is empty or None. The other
    tokens are those of attempts that did not serve.
    """

    id: int
    at: float
    request_id: str
    client: str
    method: str
    path: str
    model: str
    rule: str
    served_by: str
    attempts: str
    status: int
    stream: bool
    seconds: float
    first_content_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    broken: str
    other_input_tokens: int | None
    other_output_tokens: int | None


def row(at: float, done: Finished) -> Row:
    """What is kept of a request."""
    usage = done.usage
    counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens) if usage else (None,) * 3
    other = done.other_usage
    others = (other.input_tokens, other.output_tokens) if other else (None,) * 2
    *texts, broken = _clean(
        *(done.request_id, done.client, done.method, done.path, done.model),
        *(done.rule, done.served_by, done.trace, done.broken),
    )
    return (
        at,
        *texts,
        done.status,
        done.stream,
        done.seconds,
        done.first_content_s,
        *_counted(*counts),
        broken,
        *_counted(*others),
    )


def add(database: peewee.Database, rows: Sequence[Row]) -> None:
    """Write rows, oldest first, in the caller's transaction."""
    for some in _portions(rows):
        statement = _INSERT + ", ".join([_PLACES] * len(some))
        sql.run(database, statement, *(value for row in some for value in row))


def latest(limit: int, *, client: str | None = None, model: str | None = None) -> list[Entry]:
    """The newest requests, newest first; of one client, of one model as it was asked for."""
    query = RequestRow.select().order_by(RequestRow.id.desc()).limit(limit)
    if client is not None:
        query = query.where(RequestRow.client == client)
    if model is not None:
        query = query.where(RequestRow.model == model)
    return [Entry(id=row.id, **{name: getattr(row, name) for name in _COLUMNS}) for row in query]


def are_too_many(*, before: float, most: int) -> bool:
    """Whether the oldest row is older than `before` or there are more than `most`."""
    oldest = RequestRow.select(RequestRow.id, RequestRow.at).order_by(RequestRow.id).limit(1).first()
    return oldest is not None and (oldest.at < before or oldest.id <= _newest() - most)


def prune(*, before: float, most: int, step: int) -> int:
    """Remove what is too much or too old among the `step` oldest rows; returns how many.

    Rows are counted by their ids: a server leaves gaps, so there it may keep a few less.
    """
    oldest = RequestRow.select(RequestRow.id).order_by(RequestRow.id).limit(step)
    too_many = RequestRow.id <= _newest() - most
    doomed = RequestRow.delete().where(RequestRow.id.in_(oldest), too_many | (RequestRow.at < before))
    return int(doomed.execute())


def _counted(*counts: int | None) -> list[int | None]:
    return [None if count is None else min(count, _MOST_TOKENS) for count in counts]


def _newest() -> int:
    return int(RequestRow.select(peewee.fn.MAX(RequestRow.id)).scalar() or 0)


def _portions(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]


def _clean(*texts: str) -> list[str]:
    """The texts without keys, and as any database takes them: PostgreSQL refuses NUL, both refuse
    half a character. They are looked at as one, which costs a fifth of looking at each.
    """
    cut = [text[:_LONGEST] for text in texts]
    together = "\n".join(cut)
    if together.count("\n") >= len(cut):
        together = "\n".join(text.replace("\n", " ") for text in cut)
    together = redact(together)
    if not together.isascii():
        together = together.encode("utf-8", "replace").decode()
    return together.replace("\0", "\N{REPLACEMENT CHARACTER}").split("\n")
