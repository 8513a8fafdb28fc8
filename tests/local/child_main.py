"""The worker of tests: the engine's own child, on strings and with other constants.

`python -m tests.local.child_main RIG FD`, started by `gateway.local.child` in the place of the real one.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def command(folder: Path, constants: Mapping[str, Any]) -> tuple[str, ...]:
    """How to start it; the number of its socket is put behind."""
    return (sys.executable, "-m", "tests.local.child_main", json.dumps([str(folder), dict(constants)]))


def main() -> None:
    from gateway.local.engine import child
    from gateway.local.engine.quiet import quieten
    from tests.local.puppets import attach

    folder, constants = json.loads(sys.argv[1])
    quieten()
    attach(Path(folder), _put)
    for name, value in constants.items():
        _put(name, value)
    child.main(int(sys.argv[2]))


def _put(name: str, value: Any) -> None:
    module, _, attribute = name.rpartition(".")
    found = importlib.import_module(module)
    assert hasattr(found, attribute), name
    setattr(found, attribute, value)


if __name__ == "__main__":
    main()
