"""How fast models are, learnt from their answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.local.mailbox import Finished
from gateway.local.speed import Speed, Speeds


def finished(**fields: Any) -> Finished:
    done: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 11, "prefill_s": 0.5, "decode_s": 2.0}
    return Finished(id=1, **{**done, **fields})


def learnt(*events: tuple[Finished, int]) -> Speed:
    speed = Speed()
    for event, rows in events:
        speed.learn(event, rows)
    return speed


def test_the_first_answer_is_the_first_guess() -> None:
    """The first token belongs to the prompt: between eleven tokens there are ten steps."""
    assert learnt((finished(), 1)) == Speed(prefill_tps=200.0, decode_tps=5.0, answers=1)


def test_later_ones_change_it_a_little() -> None:
    found = learnt((finished(), 1), (finished(prefill_s=1.0, decode_s=1.0), 1))
    assert found.prefill_tps == pytest.approx(180.0)
    assert found.decode_tps == pytest.approx(6.0)
    assert found.answers == 2


def test_tokens_that_were_not_computed_do_not_count() -> None:
    assert learnt((finished(cached_tokens=50), 1)).prefill_tps == 100.0
    assert learnt((finished(cached_tokens=90), 1)).prefill_tps is None


@pytest.mark.parametrize(
    "event", [finished(prompt_tokens=31, completion_tokens=7), finished(prefill_s=0.0, decode_s=0.0)]
)
def test_what_says_little_teaches_nothing(event: Finished) -> None:
    assert learnt((event, 1)) == Speed(answers=1)


def test_several_answers_say_how_fast_each_was_and_nothing_of_the_prompt() -> None:
    assert learnt((finished(completion_tokens=44), 4)) == Speed(decode_tps=5.0, answers=1)
    assert learnt((finished(completion_tokens=11), 0)).decode_tps == 5.0


# --- the file -------------------------------------------------------------------------------------


def test_what_was_learnt_survives_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "speeds.json"
    speeds = Speeds(file)
    speeds.read()
    assert speeds.of("f") == Speed()
    speeds.write()
    assert not file.exists(), "reading is no reason to write"
    speeds.learn("f", finished(), 1)
    speeds.loaded("f", 1.23456)
    speeds.write()
    again = Speeds(file)
    again.read()
    assert again.of("f") == speeds.of("f") == Speed(200.0, 5.0, 1.235, 1)
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_learnt_before_the_file_is_read_is_newer(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path / "speeds.json")
    speeds.loaded("f", 1.0)
    speeds.write()
    again = Speeds(tmp_path / "speeds.json")
    again.loaded("f", 2.0)
    again.read()
    assert again.of("f").load_s == 2.0


def test_only_so_many_models_are_remembered(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path / "speeds.json")
    for number in range(501):
        speeds.loaded(f"f{number}", 1.0)
    speeds.write()
    again = Speeds(tmp_path / "speeds.json")
    again.read()
    assert again.of("f0") == Speed()
    assert again.of("f500").load_s == 1.0


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"f": {"answers": "many"}}', b"\xff"])
def test_a_file_that_is_none_is_learnt_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "speeds.json"
    file.write_bytes(content)
    speeds = Speeds(file)
    speeds.read()
    assert "measured anew" in caplog.text
    speeds.loaded("f", 1.0)
    speeds.write()
    assert b"load_s" in file.read_bytes()


def test_a_disk_that_takes_nothing_is_no_reason_to_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    speeds = Speeds(tmp_path / "nowhere" / "speeds.json")
    speeds.loaded("f", 1.0)
    speeds.write()
    assert "can't be kept" in caplog.text
    assert speeds.of("f").load_s == 1.0


def test_the_bytes_of_a_token_are_learnt_from_bodies_of_text() -> None:
    speed = Speed()
    speed.learn(finished(), 1)
    speed.learn(finished(), 1, 255)
    assert speed.bytes_per_token is None
    speed.learn(finished(), 1, 500)
    assert speed.bytes_per_token == 5.0
    speed.learn(finished(), 1, 1000)
    assert speed.bytes_per_token == pytest.approx(6.0)


def test_how_fast_models_load_is_learnt_from_large_ones(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path / "speeds.json")
    speeds.loaded("tiny", 1.0, 1000)
    assert speeds.load_rate() is None
    speeds.loaded("large", 2.0, 3_000_000_000)
    speeds.loaded("larger", 4.0, 9_000_000_000)
    assert speeds.load_rate() == pytest.approx(2e9)
    speeds.write()
    again = Speeds(tmp_path / "speeds.json")
    again.read()
    assert again.load_rate() == speeds.load_rate()
