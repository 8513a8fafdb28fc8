"""Counters and histograms for /metrics, in a registry of their own.

Labels are bounded: backends are `local` and the upstreams' names, outcomes are one word each. Model
names and client names are no labels, because clients make them up. Only what is fed stands here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector

from gateway.telemetry.finished import Finished

__all__ = ["CONTENT_TYPE", "Metrics", "began", "ended", "ledger_dropped", "local", "offline", "render"]

_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_CONTENT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# What is shown of the local pool, by the names that it has there.
_LOCAL_GAUGES = {
    "queue": "Answers that wait for a place in a batch.",
    "running": "Answers that are being made.",
    "models_resident": "Models in memory.",
    "memory_used_bytes": "What models, answers and kept prompts take, measured at the process.",
    "memory_limit_bytes": "What they may take.",
    "prompt_cache_bytes": "Prompts that are kept because they may come again.",
}
_LOCAL_COUNTERS = {
    "steps": "Steps of all batches.",
    "rows": "Answers that these steps advanced; rows per step is the mean batch.",
    "prompt_tokens": "Tokens of prompts, those from the prompt cache included.",
    "cached_tokens": "Tokens of prompts that were not computed again.",
    "completion_tokens": "Tokens of answers.",
    "loads": "Models that were loaded.",
    "unloads": "Models that were let go.",
    "cancelled": "Requests whose client left.",
    "rebuilds": "Batches that failed and were begun anew.",
    "engines_lost": "Engines that hung or died and were replaced.",
}

Labels = tuple[str, ...]


class _Spread:
    """How often a duration fell between which bounds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def shown(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative, as the format wants it, and the sum."""
        buckets: list[tuple[str, float]] = []
        count = 0
        for bound, here in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            count += here
            buckets.append((bound, count))
        return buckets, self._sum


class Metrics(Collector):
    """The gateway's metrics; the process has one, a test makes its own.

    Counts are plain numbers, turned into Prometheus' objects when somebody looks: its own counters
    cost a lock and a lookup each, ten times per request. Only the event loop's thread may feed them.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._requests: dict[Labels, int] = defaultdict(int)
        self._attempts: dict[Labels, int] = defaultdict(int)
        self._failovers: dict[Labels, int] = defaultdict(int)
        self._broken: dict[Labels, int] = defaultdict(int)
        self._continued: dict[Labels, int] = defaultdict(int)
        self._tokens: dict[Labels, int] = defaultdict(int)
        self._seconds: dict[Labels, _Spread] = defaultdict(lambda: _Spread(_REQUEST_S))
        self._first_content: dict[Labels, _Spread] = defaultdict(lambda: _Spread(_CONTENT_S))
        self._local: Callable[[], Mapping[str, Any]] | None = None
        self._ledger_dropped: Callable[[], int] | None = None
        self._offline: Callable[[], str | None] = lambda: None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def began(self) -> None:
        """A request came in; `ended` follows in every case."""
        self._in_flight += 1

    def ended(self, done: Finished) -> None:
        """A request is over, however it ended."""
        self._in_flight -= 1
        backend = done.served_by.partition("/")[0] or "none"
        alone = (backend,)
        self._requests[backend, str(done.status)] += 1
        self._seconds[alone].add(done.seconds)
        for label, outcome in done.attempts:
            self._attempts[label.partition("/")[0], outcome.value] += 1
        for label in done.lost:
            self._attempts[label.partition("/")[0], "cancelled"] += 1
        if done.continued:
            self._continued[alone] += 1
        if done.served_by and done.attempts and done.attempts[0][0] != done.served_by:
            self._failovers[alone] += 1
        if done.broken:
            self._broken[alone] += 1
        if done.stream and done.first_content_s is not None:
            self._first_content[alone].add(done.first_content_s)
        if (usage := done.usage) is not None:
            self._tokens[backend, "input"] += usage.input_tokens
            self._tokens[backend, "output"] += usage.output_tokens
            self._tokens[backend, "cached"] += usage.cached_tokens

    def local(self, read: Callable[[], Mapping[str, Any]]) -> None:
        """Show the figures of the local pool; `read` is called when somebody looks."""
        self._local = read

    def ledger_dropped(self, read: Callable[[], int]) -> None:
        """Show how many rows the request ledger could not write; `read` is called when somebody looks."""
        self._ledger_dropped = read

    def offline(self, read: Callable[[], str | None]) -> None:
        """Show whether upstreams are out of reach; `read` says why, or None, when somebody looks."""
        self._offline = read

    def render(self) -> bytes:
        """The page, of type `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield _counter(
            "requests",
            "Requests by who answered (none: nobody) and status.",
            ("backend", "status"),
            self._requests,
        )
        yield _counter(
            "attempts",
            "Tries of a target by what they came to; cancelled: another one was faster.",
            ("backend", "outcome"),
            self._attempts,
        )
        yield _counter(
            "failovers",
            "Requests that another target than the first one tried has answered.",
            ("backend",),
            self._failovers,
        )
        yield _counter(
            "broken_streams", "Answers that broke after their first content.", ("backend",), self._broken
        )
        yield _counter(
            "continuations",
            "Answers that this backend finished where another attempt had broken off.",
            ("backend",),
            self._continued,
        )
        yield _counter(
            "tokens",
            "Tokens as the backends counted them; cached ones are part of input.",
            ("backend", "kind"),
            self._tokens,
        )
        yield _histogram(
            "request_seconds", "From the request's head to the answer's last byte.", self._seconds
        )
        yield _histogram(
            "first_content_seconds",
            "From the request's head to the answer's first content (streams).",
            self._first_content,
        )
        yield GaugeMetricFamily(
            "mlx_gateway_requests_in_flight", "Requests that are being answered now.", self._in_flight
        )
        yield GaugeMetricFamily(
            "mlx_gateway_offline",
            "1 while upstreams are skipped because this machine's network does not reach them.",
            int(self._offline() is not None),
        )
        if self._local is not None:
            figures = self._local()
            for name, what in _LOCAL_GAUGES.items():
                yield GaugeMetricFamily(f"mlx_gateway_local_{name}", what, figures[name])
            for name, what in _LOCAL_COUNTERS.items():
                yield CounterMetricFamily(f"mlx_gateway_local_{name}", what, figures[name])
        if self._ledger_dropped is not None:
            yield CounterMetricFamily(
                "mlx_gateway_ledger_dropped",
                "Rows of the request ledger that could not be written.",
                self._ledger_dropped(),
            )


def _counter(name: str, what: str, labels: Labels, values: Mapping[Labels, int]) -> Metric:
    family = CounterMetricFamily(f"mlx_gateway_{name}", what, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, what: str, spreads: Mapping[Labels, _Spread]) -> Metric:
    family = HistogramMetricFamily(f"mlx_gateway_{name}", what, labels=("backend",))
    for key, spread in spreads.items():
        buckets, total = spread.shown()
        family.add_metric(key, buckets, total)
    return family


_of_this_process = Metrics()
began = _of_this_process.began
ended = _of_this_process.ended
ledger_dropped = _of_this_process.ledger_dropped
local = _of_this_process.local
offline = _of_this_process.offline
render = _of_this_process.render
