"""What a worker inherits, and that it never outlives the gateway."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import gateway
from gateway.local.process import how, inheritance
from tests.local.workers import PUPPET, SPEAKER, child, ended, eventually, submit

SECRETS = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "MLX_GATEWAY_MASTER_KEY",
    "MLX_GATEWAY_PORT",
    "MLX_API_KEY",
    "OMP_TOKEN",
    "HF_TOKEN",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "NOTIFY_SOCKET",
    "XPATH",
    "PATHS",
)
KEPT = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "2",
    "MLX_MAX_OPS_PER_BUFFER": "50",
    "TMPDIR": "/tmp",
    "LD_LIBRARY_PATH": "/nowhere",
}


def test_a_worker_inherits_what_is_listed_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "canary-53")
    for name, value in KEPT.items():
        monkeypatch.setenv(name, value)
    code = SPEAKER + "import json; say(Delta(1, json.dumps(dict(os.environ)))); next(heard)"
    with child(code) as (_, ears):
        eventually(lambda: ears.events)
        assert "canary-53" not in ears.text
        for name, value in KEPT.items():
            assert f'"{name}": "{value}"' in ears.text
        assert '"PATH"' in ears.text


def test_a_number_is_the_only_thing_that_some_variables_can_be() -> None:
    environ = {"MLX_X": "1.5", "MLX_Y": "one", "OMP_Z": "1" * 40, "MLX_GATEWAY_N": "1"}
    assert set(inheritance(environ, [])) == {"MLX_X", "PYTHONPATH"}


def test_a_worker_finds_the_modules_that_we_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(gateway.__file__).parents[1])
    assert inheritance({}, ["", "/a", "b"])["PYTHONPATH"] == f"{root}:/a"
    assert inheritance({}, ["/a", root])["PYTHONPATH"] == f"/a:{root}"
    (tmp_path / "json.py").write_text("raise SystemExit('not the module you want')")
    monkeypatch.chdir(tmp_path)  # whoever writes here is not listened to
    code = SPEAKER + "import json, gateway; say(Delta(1, gateway.__file__)); next(heard)"
    with child(code) as (_, ears):
        eventually(lambda: ears.events)
        assert ears.text == gateway.__file__


def test_ctrl_c_in_a_terminal_does_not_reach_a_worker() -> None:
    with child(SPEAKER + "next(heard)") as (engine, _):
        assert engine.pid
        assert os.getsid(engine.pid) == engine.pid != os.getsid(0)


def test_what_a_worker_started_ends_with_it() -> None:
    code = SPEAKER + "import subprocess; p = subprocess.Popen(['sleep', '60']); say(Delta(1, str(p.pid)))"
    with child(code + "\nnext(heard)\ntime.sleep(60)") as (_, ears):
        eventually(lambda: ears.events)
        pid = int(ears.text)
        assert not ended(pid)
    eventually(lambda: ended(pid))


@pytest.mark.parametrize("state", ["waits", "works", "stopped"])
def test_a_worker_ends_when_the_gateway_is_killed(state: str, tmp_path: Path) -> None:
    """A worker that lives on holds gigabytes that nobody will ever ask for again."""
    if state == "stopped" and sys.platform != "linux":
        pytest.skip("only Linux ends a stopped process with its parent")
    do = {"works": "time.sleep(60)", "waits": "pass", "stopped": "os.kill(os.getpid(), 19)"}[state]
    gateway = textwrap.dedent(
        f"""
        import time
        from tests.local.workers import *
        ears = Ears()
        engine = EngineChild(SETTINGS, ears, command=program(PUPPET))
        engine.post(submit(1, "tell('here');" + {do!r}))
        eventually(lambda: ears.events)
        print(engine.pid, flush=True)
        time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", gateway], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert not ended(pid)
        parent.kill()
        parent.wait()
    assert eventually(lambda: ended(pid)) < 2


def test_a_gateway_that_ends_without_a_word_takes_its_workers_along() -> None:
    gateway = textwrap.dedent(
        """
        from tests.local.workers import *
        ears = Ears()
        engine = EngineChild(SETTINGS, ears, command=program(PUPPET))
        engine.post(submit(1, "tell('here'); time.sleep(60)"))
        eventually(lambda: ears.events)
        print(engine.pid)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", gateway], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: ended(int(done.stdout)))


def test_a_worker_outlives_the_thread_that_asked_for_it() -> None:
    """The kernel ends it with the thread that started it, which therefore can't be the one that asked."""
    import threading

    from gateway.local.child import EngineChild
    from tests.local.workers import SETTINGS, Ears, program

    ears, made = Ears(), []
    thread = threading.Thread(
        target=lambda: made.append(EngineChild(SETTINGS, ears, command=program(PUPPET)))
    )
    thread.start()
    thread.join()
    (engine,) = made
    engine.post(submit(1, "tell('here')"))
    eventually(lambda: ears.text == "here")
    assert engine.alive
    engine.abandon()
    assert engine.join(10)


def test_an_end_in_words() -> None:
    assert how(0) == "ended with exit code 0"
    assert how(-signal.SIGABRT) == "was killed by SIGABRT"
    assert how(-63) == "was killed by signal 63"
