"""What a configuration says to an engine, and of single models."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.config import Local
from gateway.local.mailbox import EngineSettings, ModelFolder
from gateway.local.settings import Choices, engine_settings

GIB = 1024**3
HOME = Path("/home/x")
MODEL = ModelFolder(name="lab/m", path="/m", size_bytes=10, fingerprint="f")
DRAFT = ModelFolder(name="small", path="/d", size_bytes=3, fingerprint="g")


def test_an_engine_is_told_its_part() -> None:
    config = Local(batch_size=3, prefill_step=64, default_max_tokens=9, prompt_cache_gb=0.5)
    assert engine_settings(config, HOME, 4 * GIB) == EngineSettings(
        batch_size=3,
        prefill_step=64,
        default_max_tokens=9,
        cache_bytes=GIB // 2,
        memory_bytes=4 * GIB,
        prompt_cache_bytes=GIB // 2,
    )


def test_caches_have_their_share_of_the_memory_and_no_more() -> None:
    small = engine_settings(Local(prompt_cache_gb=100), HOME, GIB)
    assert (small.cache_bytes, small.prompt_cache_bytes) == (GIB // 8, GIB // 4)
    assert engine_settings(Local(), HOME, 100 * GIB).cache_bytes == GIB
    assert engine_settings(Local(prompt_cache_gb=0), HOME, GIB).prompt_cache_bytes == 0


def test_prompts_go_to_the_disk_only_where_it_is_asked_for() -> None:
    found = engine_settings(Local(prompt_cache_disk_gb=2), HOME, GIB)
    assert (found.prompt_cache_folder, found.prompt_cache_disk_bytes) == ("/home/x/prompts", 2 * GIB)
    assert engine_settings(Local(), HOME, GIB).prompt_cache_folder == ""


def test_settings_that_name_a_model() -> None:
    choices = Choices(Local(kv_bits=("lab/m=4",), draft_models=("lab/m=small", "other=gone")))
    known = {"small": DRAFT, "lab/m": MODEL}
    assert choices.of(MODEL, known) == msgspec.structs.replace(MODEL, kv_bits=4, draft="/d", draft_bytes=3)
    assert choices.of(DRAFT, known) is DRAFT
    assert choices.of(MODEL, {}) == msgspec.structs.replace(MODEL, kv_bits=4)
    other = msgspec.structs.replace(MODEL, name="other")
    assert choices.of(other, known) is other, "a draft model that is not there is left out"
    assert (choices.draft_of("other"), choices.draft_of("lab/m"), choices.draft_of("x")) == (
        "gone",
        "small",
        None,
    )
