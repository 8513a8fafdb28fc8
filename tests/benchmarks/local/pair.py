"""Both sides at one model, measured in turn: each round begins with the other one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.benchmarks.local import servers
from tests.benchmarks.local.ask import ask, chat
from tests.benchmarks.local.servers import Server
from tests.benchmarks.local.subject import Subject


@dataclass(frozen=True)
class Pair:
    subject: Subject
    gateway: Server
    peer: Server
    rounds: int

    def sides(self, number: int) -> tuple[Server, Server]:
        return (self.gateway, self.peer) if number % 2 == 0 else (self.peer, self.gateway)

    def turns(self, rounds: int | None = None) -> Iterator[Server]:
        for number in range(rounds or self.rounds):
            yield from self.sides(number)

    async def warm_up(self) -> None:
        """Both have loaded the model and written once."""
        for side in self.sides(0):
            for _ in range(3):
                await ask(side, chat(side, self.subject.short(), max_tokens=8))


@contextmanager
def pair(subject: Subject, rounds: int, settings: Mapping[str, str]) -> Iterator[Pair]:
    with (
        servers.gateway(subject.name, subject.folder, settings) as ours,
        servers.mlx_lm_server(subject.folder) as theirs,
    ):
        yield Pair(subject, ours, theirs, rounds)
