"""Vectors beneath the pool: long inputs in pieces, what pooling says, and what fails."""

from __future__ import annotations

import array
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.failover.outcome import Failure, Outcome
from gateway.local.mailbox import Began, Finished, Refused, Vectors
from tests.local.models import make_embedder

Run = Callable[[Callable[[], Any]], Any]
LONG = [n * 7 % 250 for n in range(300)]


def computed(events: list[Any]) -> list[list[float]]:
    (found,) = [event for event in events if isinstance(event, Vectors)]
    return [array.array("f", data).tolist() for data in found.data]


@pytest.mark.parametrize("mode", ["last", "mean", "first"])
def test_a_long_input_in_pieces_is_the_same_as_at_once(
    on_mlx: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    folder = make_embedder(tmp_path, "mean_tokens", normalised=True)

    def work() -> list[list[float]]:
        from gateway.local.engine import embed
        from gateway.local.engine.foreign import load_model

        model, _ = load_model(folder, lazy=False)
        found = []
        for group, chunk in ((2048, 512), (64, 512), (64, 128), (64, 37), (64, 1)):
            monkeypatch.setattr(embed, "_GROUP_TOKENS", group)
            embedder = embed.Embedder(model, embed.Pooling(mode, normalised=False), chunk)
            embedder.add(1, [LONG], None)
            out: list[Any] = []
            steps = 0
            while embedder.busy:
                embedder.step(out)
                steps += 1
            assert steps == (1 if group > 300 else -(-300 // chunk))
            assert out[0] == Began(1)
            assert out[-1] == Finished(id=1, prompt_tokens=300)
            found.append(computed(out)[0])
        return found

    first, *others = on_mlx(work)
    assert all(other == pytest.approx(first, abs=1e-4) for other in others)


def test_groups_are_bounded_and_one_that_fails_or_leaves_takes_no_other_with_it(
    on_mlx: Run, tmp_path: Path
) -> None:
    folder = make_embedder(tmp_path, "mean_tokens", normalised=True)
    failure = Failure(outcome=Outcome.LOCAL_FAULT, message="x")

    def work() -> list[Any]:
        from gateway.local.engine.embed import Embedder, Pooling
        from gateway.local.engine.foreign import load_model

        model, _ = load_model(folder, lazy=False)
        embedder = Embedder(model, Pooling("mean", normalised=True), 128)
        for number in range(1, 5):
            embedder.add(number, [[number] * 9] * 20, 4)
        out: list[Any] = []
        embedder.step(out)  # sixteen of twenty
        assert out == [Began(1)]
        embedder.fail(failure, out)
        assert embedder.cancel(3)
        assert not embedder.cancel(3)
        embedder.step(out)
        assert embedder.cancel(2), "in the midst of it"
        while embedder.busy:
            embedder.step(out)
        embedder.fail(failure, out)
        return out

    out = on_mlx(work)
    assert out[:3] == [Began(1), Refused(1, failure), Began(2)]
    assert [type(event) for event in out[3:]] == [Began, Vectors, Finished]
    assert {len(vector) for vector in computed(out)} == {4}
    assert len(computed(out)) == 20


@pytest.mark.parametrize(
    ("modules", "pooling", "expected"),
    [
        (["Transformer", "Pooling", "Normalize"], {"pooling_mode_lasttoken": True}, ("last", True)),
        (["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True}, ("mean", False)),
        (["Transformer", "Pooling"], {"pooling_mode_cls_token": True}, ("first", False)),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, None),
        (["Transformer"], {"pooling_mode_mean_tokens": True}, None),
        (["Transformer", "Pooling"], None, None),
        (None, None, None),
    ],
)
def test_what_is_said_of_pooling(tmp_path: Path, modules: Any, pooling: Any, expected: Any) -> None:
    from gateway.local.engine.embed import read_pooling

    if modules is not None:
        said = [{"type": f"x.{kind}", "path": f"{kind}"} for kind in modules]
        (tmp_path / "modules.json").write_text(json.dumps(said))
    if pooling is not None:
        (tmp_path / "Pooling").mkdir()
        (tmp_path / "Pooling" / "config.json").write_text(json.dumps(pooling))
    found = read_pooling(tmp_path)
    assert (found and (found.mode, found.normalised)) == expected


@pytest.mark.parametrize(
    "text", ["{", "[]", "5", '[{"type": "x.Pooling"}]', '[{"type": "x.Pooling", "path": "../x"}]']
)
def test_a_description_that_is_none_makes_no_vectors(tmp_path: Path, text: str) -> None:
    from gateway.local.engine.embed import read_pooling

    (tmp_path / "modules.json").write_text(text)
    assert read_pooling(tmp_path) is None


@pytest.mark.parametrize("text", ["[]", "5", "null"])
def test_a_pooling_that_is_no_object_makes_no_vectors(tmp_path: Path, text: str) -> None:
    from gateway.local.engine.embed import read_pooling

    (tmp_path / "modules.json").write_text('[{"type": "x.Pooling", "path": "p"}]')
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "config.json").write_text(text)
    assert read_pooling(tmp_path) is None
