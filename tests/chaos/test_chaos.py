"""Chaos for five minutes: no answer is silently short or wrong, and hardly any fails that had a target."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.chaos.conftest import SECONDS

_MORE_S = 90.0  # to start and to end, on a machine that has other work


@pytest.mark.timeout(SECONDS + _MORE_S + 30)
def test_the_long_run(long_run: Path) -> None:
    report = long_run / "report.json"
    began = (long_run / "output").stat().st_ctime
    while not report.exists():
        assert time.time() - began < SECONDS + _MORE_S, (long_run / "output").read_text()
        time.sleep(0.5)
    found = json.loads(report.read_text())
    assert found["wrong"] == [], json.dumps(found, indent=1, ensure_ascii=False)
    assert found["requests"] > SECONDS
    assert found["silently short or wrong"] == 0
