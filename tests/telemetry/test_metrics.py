from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.config import Local
from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from gateway.telemetry import metrics
from gateway.telemetry.finished import Finished
from gateway.telemetry.metrics import Metrics
from tests.telemetry.test_access import DONE


def page(of: Metrics) -> dict[str, float]:
    """All samples, written as Prometheus writes them."""
    samples = {}
    for family in text_string_to_metric_families(of.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_a_request_that_failed_over_is_counted_where_it_belongs() -> None:
    of = Metrics()
    of.began()
    assert page(of)["mlx_gateway_requests_in_flight"] == 1
    of.ended(DONE)
    shown = page(of)
    assert shown["mlx_gateway_requests_in_flight"] == 0
    assert shown["mlx_gateway_requests_total{backend=openai,status=200}"] == 1
    assert shown["mlx_gateway_attempts_total{backend=local,outcome=overloaded}"] == 1
    assert shown["mlx_gateway_attempts_total{backend=openai,outcome=ok}"] == 1
    assert shown["mlx_gateway_failovers_total{backend=openai}"] == 1
    assert shown["mlx_gateway_tokens_total{backend=openai,kind=output}"] == 345
    assert shown["mlx_gateway_tokens_total{backend=openai,kind=cached}"] == 7
    assert shown["mlx_gateway_request_seconds_sum{backend=openai}"] == DONE.seconds
    assert shown["mlx_gateway_request_seconds_bucket{backend=openai,le=0.5}"] == 0
    assert shown["mlx_gateway_request_seconds_bucket{backend=openai,le=1.0}"] == 1
    assert shown["mlx_gateway_request_seconds_bucket{backend=openai,le=+Inf}"] == 1
    assert shown["mlx_gateway_first_content_seconds_count{backend=openai}"] == 1


def test_a_retry_of_the_same_target_is_no_failover() -> None:
    of = Metrics()
    twice = (("openai/gpt-4o", Outcome.SERVER_FAULT), ("openai/gpt-4o", Outcome.OK))
    of.began()
    of.ended(DONE._replace(attempts=twice))
    assert not [name for name in page(of) if "failovers_total" in name]


def test_a_request_that_nobody_answered() -> None:
    of = Metrics()
    of.began()
    of.ended(Finished(request_id="r", method="POST", path="/v1/x", status=503, seconds=700.0))
    shown = page(of)
    assert shown["mlx_gateway_requests_total{backend=none,status=503}"] == 1
    assert shown["mlx_gateway_request_seconds_bucket{backend=none,le=600.0}"] == 0
    assert shown["mlx_gateway_request_seconds_count{backend=none}"] == 1


def test_a_broken_stream_is_counted() -> None:
    of = Metrics()
    of.began()
    of.ended(DONE._replace(broken="server_fault"))
    assert page(of)["mlx_gateway_broken_streams_total{backend=openai}"] == 1


def test_names_that_clients_make_up_are_no_labels() -> None:
    of = Metrics()
    for number in range(1000):
        of.began()
        label = f"openai/model-{number}"
        attempts = ((label, Outcome.OK),)
        of.ended(DONE._replace(model=f"m{number}", served_by=label, client=f"c{number}", attempts=attempts))
    ours = [name for name in page(of) if name.startswith("mlx_gateway_")]
    assert len(ours) < 60
    assert all(name.startswith(("mlx_gateway_", "process_", "python_")) for name in page(of))


async def test_the_local_pools_figures_are_read_when_somebody_looks(tmp_path: Path) -> None:
    """By the names that the pool gives them: a figure that it does not have would fail here."""
    of = Metrics()
    assert "mlx_gateway_local_queue" not in page(of)
    figures = LocalPool(Local(hub_cache=False), tmp_path).stats()
    of.local(lambda: figures)
    assert page(of)["mlx_gateway_local_queue"] == 0
    figures = {**figures, "queue": 4, "engines_lost": 2}
    assert page(of)["mlx_gateway_local_queue"] == 4
    assert page(of)["mlx_gateway_local_engines_lost_total"] == 2


def test_the_rows_that_the_ledger_dropped_are_counted_when_somebody_looks() -> None:
    of = Metrics()
    assert "mlx_gateway_ledger_dropped_total" not in page(of)
    of.ledger_dropped(lambda: 7)
    assert page(of)["mlx_gateway_ledger_dropped_total"] == 7


def test_the_process_has_one_page() -> None:
    assert metrics.CONTENT_TYPE.startswith("text/plain; version=0.0.4")
    assert b"mlx_gateway_requests_in_flight" in metrics.render()


def test_a_machine_that_is_offline_shows_it() -> None:
    of = Metrics()
    assert page(of)["mlx_gateway_offline"] == 0
    of.offline(lambda: "a.test: there is no route")
    assert page(of)["mlx_gateway_offline"] == 1
