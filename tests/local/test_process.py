"""What only a process of its own can show: its imports, its loop's lag, a clean exit."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.local.models import make_model

PRELUDE = """
import asyncio, sys
from pathlib import Path
from gateway.config import Local
from gateway.local.pool import LocalPool
from tests.local.asking import call, closing, refused, soon, stream, whole
HOME = Path(sys.argv[1])
"""


def run(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    program = PRELUDE + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, str(home)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=False,
    )


def test_a_pool_that_answers_nothing_imports_nothing_heavy(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "tiny")
    done = run(
        """
        async def main():
            async with closing(LocalPool(Local(hub_cache=False), HOME)) as pool:
                assert pool.knows("tiny")
                await refused(pool, "nobody")
                await refused(pool, "tiny", n=0)
                pool.stats()
        asyncio.run(main())
        heavy = ("mlx", "mlx_lm", "transformers", "numpy", "jinja2", "tokenizers", "huggingface_hub")
        print([name for name in heavy if name in sys.modules])
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


@pytest.mark.parametrize(
    ("isolation", "how"),
    [("thread", "idle"), ("thread", "cancelled"), ("thread", "running"), ("process", "running")],
)
def test_the_process_ends_cleanly_after_the_engine_worked(tmp_path: Path, isolation: str, how: str) -> None:
    """A worker thread that does not clear its streams makes a third of the exits a SIGABRT (mlx.md A.7)."""
    make_model(tmp_path / "models" / "tiny")
    done = run(
        f"""
        async def main():
            pool = LocalPool(Local(hub_cache=False, isolation={isolation!r}), HOME)
            await pool.start()
            await asyncio.gather(*(whole(pool, "tiny", str(n), max_tokens=20) for n in range(4)))
            if {how!r} != "idle":
                endless = call("tiny", max_tokens=2000, logit_bias={{"256": -100}})
                reply = await pool.open(endless, deadline=soon())
                if {how!r} == "cancelled":
                    await reply.aclose()
            assert await pool.close(soon(10))
        asyncio.run(main())
        print("done")
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "done", "")


def test_the_loop_goes_on_while_the_engine_loads_reads_prompts_and_generates(tmp_path: Path) -> None:
    """Generating in an `async def` blocked the loop for whole answers. Generous bounds: the box is shared."""
    make_model(tmp_path / "models" / "slow", hidden=128, layers=4, context=1_000_000)
    done = run(
        """
        lags = []
        async def beat():
            loop = asyncio.get_running_loop()
            while True:
                before = loop.time()
                await asyncio.sleep(0.005)
                lags.append(loop.time() - before - 0.005)

        async def main():
            async with closing(LocalPool(Local(hub_cache=False), HOME)) as pool:
                await pool.load("slow")
                task = asyncio.create_task(beat())
                await asyncio.gather(*(stream(pool, "slow", max_tokens=60) for _ in range(8)))
                reply = await pool.open(call("slow", "wörter " * 50_000), deadline=soon())
                await reply.aclose()
                task.cancel()
        asyncio.run(main())
        lags.sort()
        print(lags[len(lags) // 2] * 1000, lags[len(lags) * 95 // 100] * 1000)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    # Not the worst: on a busy machine a single one says nothing of the gateway.
    middle, most = map(float, done.stdout.split())
    assert middle < 20
    assert most < 250
