"""Models that can't be loaded, don't fit, or are asked for by many at once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.backend import AttemptFailed
from gateway.config import Local
from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import closing, refused, whole
from tests.local.conftest import SETTINGS
from tests.local.models import make_model


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    make_model(tmp_path / "models" / "good")
    return tmp_path


@pytest_asyncio.fixture
async def fresh(lab: Path) -> AsyncIterator[LocalPool]:
    async with closing(LocalPool(SETTINGS, lab)) as found:
        yield found


def spoil(folder: Path, kind: str) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif kind == "no header":
        weights.write_bytes(b"\xff" * 4000)
    elif kind == "unknown architecture":
        config.write_text(config.read_text().replace('"llama"', '"nobody_knows"'))
    elif kind == "wrong shape":
        config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    elif kind == "weights missing":
        config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    elif kind == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif kind == "own code":
        (folder / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
        text = json.loads(config.read_text())
        auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
        config.write_text(json.dumps({**text, "model_file": "evil.py", "auto_map": auto}))
    elif kind == "own tokenizer":
        (folder / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
        path = folder / "tokenizer_config.json"
        auto = {"AutoTokenizer": ["evil.Tokenizer", None]}
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "auto_map": auto, "tokenizer_class": "Evil"})
        )


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "no header",
        "unknown architecture",
        "wrong shape",
        "weights missing",
        "no tokenizer",
        "own code",
    ],
)
async def test_a_model_that_is_broken_is_a_local_fault_without_details(
    fresh: LocalPool, lab: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The raw text of the exception, with paths, went to the client (D45); the log has it here."""
    folder = make_model(lab / "models" / "bad")
    spoil(folder, kind)
    fresh.rescan()
    failure = await refused(fresh, "bad")
    assert (failure.outcome, failure.status, failure.code) == (Outcome.LOCAL_FAULT, 503, "model_load_failed")
    assert str(lab) not in failure.message
    assert str(lab) in caplog.text
    assert not (folder / "ran").exists()
    assert {m.name: m.state for m in fresh.models()}["bad"] == "failed"
    assert (await whole(fresh, "good", max_tokens=2))["usage"]["completion_tokens"] >= 1


async def test_code_beside_a_tokenizer_is_never_run(fresh: LocalPool, lab: Path) -> None:
    folder = make_model(lab / "models" / "sly")
    spoil(folder, "own tokenizer")
    fresh.rescan()
    try:
        await whole(fresh, "sly", max_tokens=2)
    except AttemptFailed as error:
        assert error.failure.outcome is Outcome.LOCAL_FAULT
    assert not (folder / "ran").exists()


async def test_a_failed_load_is_not_repeated_until_the_folder_changes(
    fresh: LocalPool, lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_model(lab / "models" / "bad")
    config = folder / "config.json"
    good = config.read_text()
    spoil(folder, "unknown architecture")
    fresh.rescan()
    for _ in range(5):
        assert (await refused(fresh, "bad")).code == "model_load_failed"
    assert caplog.text.count("could not be loaded") == 1
    config.write_text(good)
    os.utime(config, ns=(1, 1))
    fresh.rescan()
    assert (await whole(fresh, "bad", max_tokens=2))["usage"]["completion_tokens"] >= 1


async def test_twenty_first_requests_cause_one_load_and_all_are_answered(fresh: LocalPool) -> None:
    answers = await asyncio.gather(*(whole(fresh, "good", f"{n}", max_tokens=2) for n in range(20)))
    assert len(answers) == 20
    assert fresh.stats()["loads"] == 1


async def test_all_who_wait_for_a_load_are_told_that_it_failed(
    fresh: LocalPool, lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A waiter got a KeyError when the load that it waited for failed (D40)."""
    caplog.set_level(logging.CRITICAL)
    spoil(make_model(lab / "models" / "bad"), "truncated")
    fresh.rescan()
    preload = asyncio.create_task(fresh.preload("bad"))
    failures = await asyncio.gather(*(refused(fresh, "bad") for _ in range(8)))
    assert {f.outcome for f in failures} == {Outcome.LOCAL_FAULT}
    with pytest.raises(AttemptFailed):
        await preload
    assert fresh.stats()["loads"] == 0


async def test_a_model_that_is_preloaded_is_ready(fresh: LocalPool) -> None:
    await asyncio.gather(fresh.preload("good"), fresh.preload("good"))
    await fresh.preload("good")
    assert fresh.stats()["models"]["good"]["state"] == "ready"
    assert fresh.stats()["loads"] == 1


async def test_a_stream_goes_on_while_another_model_loads(fresh: LocalPool, lab: Path) -> None:
    make_model(lab / "models" / "other", seed=2)
    fresh.rescan()
    await fresh.preload("good")
    await fresh.preload("other")
    make_model(lab / "models" / "third", seed=3)
    fresh.rescan()
    stream = asyncio.create_task(whole(fresh, "good", max_tokens=200, logit_bias={"256": -100}))
    await whole(fresh, "third", max_tokens=2)
    assert (await stream)["usage"]["completion_tokens"] == 200


async def test_what_does_not_fit_is_refused_before_it_is_loaded(lab: Path) -> None:
    """`max_models` was never enforced, three were loaded where one was allowed (D40)."""
    make_model(lab / "models" / "other", seed=2)
    settings = dataclasses.replace(SETTINGS, memory_limit_gb=0.07)
    async with closing(LocalPool(settings, lab)) as pool:
        assert (await whole(pool, "good", max_tokens=2))["model"] == "good"
        failure = await refused(pool, "other")
        assert (failure.outcome, failure.code) == (Outcome.OVERLOADED, "memory_full")
        assert pool.stats()["loads"] == 1
    settings = dataclasses.replace(SETTINGS, memory_limit_gb=0.01)
    async with closing(LocalPool(settings, lab)) as pool:
        failure = await refused(pool, "good")
        assert (failure.outcome, failure.code) == (Outcome.LOCAL_FAULT, "model_too_large")
        assert pool.stats()["engine"] == "off"


async def test_local_models_that_are_switched_off_are_missing_at_once(lab: Path) -> None:
    async with closing(LocalPool(Local(enabled=False), lab)) as pool:
        assert (await refused(pool, "good")).outcome is Outcome.MODEL_MISSING
        assert pool.models() == []
        assert not pool.knows("good")


async def test_what_a_models_own_generation_config_says_counts_unless_asked_otherwise(
    fresh: LocalPool, lab: Path
) -> None:
    make_model(lab / "models" / "cool", generation={"do_sample": False, "temperature": 1.0, "top_p": "odd"})
    make_model(lab / "models" / "warm", generation={"temperature": 2.0, "repetition_penalty": 1.1})
    fresh.rescan()

    async def texts(name: str, temperature: float | None = None) -> int:
        found = [await whole(fresh, name, max_tokens=16, temperature=temperature) for _ in range(3)]
        return len({f["choices"][0]["message"]["content"] for f in found})

    assert await texts("cool") == 1
    assert await texts("warm") > 1
    assert await texts("cool", temperature=2) > 1
    assert await texts("warm", temperature=0) == 1
