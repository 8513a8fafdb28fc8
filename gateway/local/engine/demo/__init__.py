"""The demo model: a tiny chat model that is part of the package, and the script that made it.

Nothing here is imported by the gateway but the path; `python -m gateway.local.engine.demo.make`
trains the model again.
"""

from __future__ import annotations

from pathlib import Path

NAME = "demo"
MODEL_DIR = Path(__file__).parent / "model"
