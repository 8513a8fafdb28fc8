"""What the engine costs on top of mlx-lm: the pool and `stream_generate` in one process, in turn.

`overhead MODEL FOLDER HOME ROUNDS` measures and prints JSON; `measure` runs it as a child, because of
the BLAS. One stream; the pool's answer is taken as the relay takes it, from bytes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.local import figures
from tests.benchmarks.local.servers import environment, give
from tests.benchmarks.local.subject import Subject

_ROOT = Path(__file__).parents[3]
_LEAST_ROUNDS = 30
_TOKENS = 64


def measure(subject: Subject, rounds: int, settings: Mapping[str, str]) -> None:
    figures.title("one stream, decoding: the engine over raw stream_generate, in one process")
    rounds = max(_LEAST_ROUNDS, rounds)
    with tempfile.TemporaryDirectory(prefix="mlxo-") as home:
        give(Path(home), subject.name, subject.folder)
        prompts = Path(home) / "prompts"
        prompts.write_text(json.dumps([subject.short() for _ in range(2 * rounds + 2)]))
        command = ["-m", "tests.benchmarks.local.overhead", subject.name, str(subject.folder), home]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=_ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the engine could not be measured: {done.stderr[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    engine, raw = found["engine"], found["raw"]
    figures.row(
        f"{len(raw)} rounds of {_TOKENS} tokens",
        f"engine {1e6 * figures.median(engine):7.0f} us/token",
        f"raw {1e6 * figures.median(raw):7.0f} us/token",
        figures.ratio(raw, engine) + " engine/raw in tokens/s (aim >= 0.95)",
        f"overhead {1e6 * figures.median([e - r for e, r in zip(engine, raw, strict=True)]):.0f} us/token",
    )


def main(name: str, folder: str, home: str) -> None:
    from mlx_lm import load

    from gateway.config import Local
    from gateway.local.pool import LocalPool

    prompts = json.loads((Path(home) / "prompts").read_text())
    model, tokenizer = load(folder)
    engine, raw = [], []
    with asyncio.Runner() as runner:
        pool = LocalPool(Local(hub_cache=False), Path(home))
        runner.run(pool.start())
        for number in range(len(prompts) // 2):
            ours = lambda turn=number: engine.append(runner.run(_engine(pool, name, prompts[2 * turn])))  # noqa: E731
            theirs = lambda turn=number: raw.append(_raw(model, tokenizer, prompts[2 * turn + 1]))  # noqa: E731
            for turn in (ours, theirs) if number % 2 == 0 else (theirs, ours):
                turn()
        runner.run(_close(pool))
    print(json.dumps({"engine": engine[1:], "raw": raw[1:]}))


async def _engine(pool: Any, name: str, messages: list[dict[str, str]]) -> float:
    """Seconds a token, from the first to the last."""
    from tests.local.asking import raw_call, soon

    asked = {"model": name, "messages": messages, "max_tokens": _TOKENS, "temperature": 0, "stream": True}
    asked["stream_options"] = {"include_usage": True}
    reply = await pool.open(raw_call(name, json.dumps(asked).encode()), deadline=soon(60))
    first, data = 0.0, b""
    async for chunk in reply.chunks():
        if not first and b'"content":"' in chunk and b'"content":""' not in chunk:
            first = time.perf_counter()
        data = chunk if chunk != b"[DONE]" else data
    took = time.perf_counter() - first
    assert json.loads(data)["usage"]["completion_tokens"] == _TOKENS
    return took / (_TOKENS - 1)


def _raw(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> float:
    from mlx_lm import stream_generate

    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    first, number = 0.0, 0
    for number, _ in enumerate(stream_generate(model, tokenizer, prompt, max_tokens=_TOKENS), 1):  # noqa: B007
        first = first or time.perf_counter()
    assert number == _TOKENS
    return (time.perf_counter() - first) / (_TOKENS - 1)


async def _close(pool: Any) -> None:
    assert await pool.close(asyncio.get_running_loop().time() + 10)


if __name__ == "__main__":
    main(*sys.argv[1:])
