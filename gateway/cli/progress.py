"""How a long download looks: a bar on a terminal, plain lines elsewhere, nothing with --json.

All of it goes to standard error; standard output is for what came of it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gateway.cli.command import common
from gateway.cli.output import clean, hint, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_STEP = 10  # percent between two lines


class Lines:
    """A line for each file, and one for each tenth of the whole."""

    def __init__(self) -> None:
        self._files = self._size = self._here = self._said = 0

    def begin(self, files: int, size_bytes: int, here_bytes: int) -> None:
        self._files, self._size, self._here = files, size_bytes, here_bytes
        self._said = self._tenths()
        here = f"; {size(here_bytes)} are here already" if here_bytes else ""
        hint(f"{files} files, {size(size_bytes)}{here}")

    def file(self, number: int, path: str, size_bytes: int) -> None:
        hint(f"{number}/{self._files} {path} ({size(size_bytes)})")

    def got(self, count: int) -> None:
        self._here += count
        if self._tenths() > self._said:
            self._said = self._tenths()
            hint(f"{self._said * _STEP} %: {size(self._here)} of {size(self._size)}")

    def note(self, text: str) -> None:
        hint(text)

    def end(self) -> None:
        """Nothing is left behind."""

    def _tenths(self) -> int:
        return self._here * (100 // _STEP) // self._size if self._size else 0


class Bar:
    """One bar for all bytes, with the file that is fetched, the speed and the time that is left."""

    def __init__(self) -> None:
        self._files = 0
        self._drawn: tuple[Progress, TaskID] | None = None

    def begin(self, files: int, size_bytes: int, here_bytes: int) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        name = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False, table_column=name),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
            expand=True,
        )
        self._files = files
        self._drawn = bar, bar.add_task("", total=size_bytes, completed=here_bytes)
        bar.start()

    def file(self, number: int, path: str, size_bytes: int) -> None:
        if self._drawn is not None:
            bar, task = self._drawn
            bar.update(task, description=f"{number}/{self._files} {clean(path)}")

    def got(self, count: int) -> None:
        if self._drawn is not None:
            bar, task = self._drawn
            bar.advance(task, count)

    def note(self, text: str) -> None:
        if self._drawn is None:
            hint(text)
            return
        self._drawn[0].console.print(clean(text), markup=False)

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._drawn is not None:
            self._drawn[0].stop()


def watch() -> Bar | Lines:
    """The one that fits where standard error goes."""
    return Bar() if sys.stderr.isatty() and not common().json else Lines()
