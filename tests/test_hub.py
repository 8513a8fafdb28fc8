"""The hub of the tests is one: the library that everybody uses downloads from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.hub import Hub

_DOWNLOAD = "import sys, huggingface_hub as h; h.snapshot_download(sys.argv[1], local_dir=sys.argv[2])"


def test_the_usual_library_downloads_from_it(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "sub/a b.txt": b"text", "model.safetensors": bytes(5000)}
    with Hub() as hub:
        hub.publish("org/tiny", files)
        # Without what an engine in this process has set: it keeps the library offline.
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
        }
        env |= {**hub.env(tmp_path), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-c", _DOWNLOAD, "org/tiny", str(tmp_path / "here")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    for name, data in files.items():
        assert (tmp_path / "here" / name).read_bytes() == data
