from __future__ import annotations

import io
import threading

from gateway.telemetry.sink import Sink
from tests.telemetry.conftest import Written


class Stuck(io.StringIO):
    """A terminal that stands still until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.gate = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.gate.wait(5)
        return super().write(text)


def lost(count: int) -> str:
    return f"lost {count}"


def test_lines_of_one_moment_leave_in_one_write() -> None:
    out = Written()
    sink = Sink(out, lost=lost)
    for number in range(100):
        sink.put(str(number))
    assert sink.flush()
    assert out.getvalue().split() == [str(number) for number in range(100)]
    assert out.writes <= 2
    sink.close()


def test_a_reader_that_stands_still_holds_nobody_up_and_what_was_lost_is_told() -> None:
    out = Stuck()
    sink = Sink(out, lost=lost)
    sink.put("first")
    assert out.reached.wait(5)
    for number in range(12_000):
        sink.put(str(number))
    assert not sink.flush(within=0.01)
    out.gate.set()
    assert sink.flush()
    lines = out.getvalue().splitlines()
    assert lines[0] == "first"
    assert lines[-1] == "lost 2000"
    assert len(lines) == 10_002
    sink.close()


def test_a_closed_output_is_no_reason_to_fail() -> None:
    out = io.StringIO()
    sink = Sink(out, lost=lost)
    out.close()
    sink.put("nobody reads this")
    assert sink.flush()
    sink.close()
    sink.put("after the end")
    assert not sink.flush()


def test_closing_writes_what_is_left() -> None:
    out = Written()
    sink = Sink(out, lost=lost)
    sink.put("last words")
    sink.close()
    assert out.getvalue() == "last words\n"
