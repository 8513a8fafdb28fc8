"""What happens to the daemon itself meanwhile: reloads, edits, resets, and the death of its worker."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter

from tests.chaos import families
from tests.chaos.host import Host
from tests.chaos.truth import chance
from tests.chaos.world import PLACES, secret
from tests.scenarios.daemon import Daemon, Refused

_SHAKY = [place for place in PLACES if place.faults]
_NOTED = 12  # rules that are edited, and must be as they were acknowledged


class Trouble:
    """Makes trouble until it is cancelled. `acknowledged`: the notes of rules, as the daemon confirmed them."""

    def __init__(self, seed: int, host: Host) -> None:
        self._seed = seed
        self._host = host
        self.done: Counter[str] = Counter()
        self.refused: list[str] = []
        self.acknowledged: dict[str, str | None] = {}
        self._asked: dict[str, str | None] = {}  # what was on its way, when the daemon died
        self.lost: list[str] = []
        self._turns = asyncio.Lock()  # held by an edit, and by who compares

    async def run(self) -> None:
        number = 0
        kinds = {
            self._reload: 3,
            self._note: 8,
            self._turn: 4,
            self._reset: 3,
            self._rotate: 6,
            self._toggle: 2,
        }
        while True:
            rng = chance(self._seed, "trouble", number)
            await asyncio.sleep(rng.uniform(0.2, 1.2))
            verb = rng.choices(list(kinds), list(kinds.values()))[0]
            number += 1
            life = self._host.life
            try:
                async with self._turns:
                    await verb(life.daemon, rng, number)
                self.done[verb.__name__.strip("_")] += 1
            except Refused as refused:
                if "no operation" not in refused.message:  # this gateway is older
                    self.refused.append(f"{verb.__name__} {number}: {refused}")
            except Exception as error:
                if not life.killed:
                    self.refused.append(f"{verb.__name__} {number}: {error!r}")

    async def check(self) -> None:
        """Is all there that was acknowledged? What had not been may be there or not."""
        async with self._turns:
            rules = {
                rule["pattern"]: rule["note"] for rule in await self._host.life.daemon.admin("rules.list")
            }
            for pattern, note in self.acknowledged.items():
                found = rules.get(pattern)
                if found not in (note, self._asked[pattern]):
                    self.lost.append(f"{pattern} should have {note!r} and has {found!r}")
            self.acknowledged = {pattern: rules.get(pattern) for pattern in self._asked}
            self._asked = dict(self.acknowledged)

    async def _reload(self, daemon: Daemon, rng: random.Random, number: int) -> None:
        daemon.signal(signal.SIGHUP)

    async def _note(self, daemon: Daemon, rng: random.Random, number: int) -> None:
        """Add, change or remove a rule of no use, and remember what was confirmed."""
        pattern = f"noted-{rng.randrange(_NOTED)}"
        known = self.acknowledged.get(pattern)
        note: str | None = f"n{number}"
        if known is None:
            self._asked[pattern] = note
            await daemon.admin("rules.add", pattern=pattern, to=["opsteady"], note=note)
        elif rng.random() < 0.3:
            note = None
            self._asked[pattern] = note
            await daemon.admin("rules.remove", rule=pattern)
        else:
            self._asked[pattern] = note
            await daemon.admin("rules.set", rule=pattern, note=note)
        self.acknowledged[pattern] = note

    async def _turn(self, daemon: Daemon, rng: random.Random, number: int) -> None:
        """Turn the targets of a rule that is in use; the last stays the last."""
        family = rng.choice(families.FAMILIES)
        dialect = rng.choice(family.dialects)
        to = family.targets(dialect, turned=rng.random() < 0.5)
        await daemon.admin("rules.set", rule=families.pattern(family, dialect), to=to)

    async def _toggle(self, daemon: Daemon, rng: random.Random, number: int) -> None:
        """Switch a credential off, and on again."""
        place = rng.choice([place for place in _SHAKY if len(place.keys) > 1])
        key = rng.choice(place.keys)
        for enabled in (False, True):
            await daemon.admin("credentials.set", upstream=place.name, name=key, enabled=enabled)

    async def _reset(self, daemon: Daemon, rng: random.Random, number: int) -> None:
        await daemon.admin("upstreams.reset", name=rng.choice(_SHAKY).name)

    async def _rotate(self, daemon: Daemon, rng: random.Random, number: int) -> None:
        """A new secret, with which a credential that was refused is asked again."""
        place = rng.choice(_SHAKY)
        key = rng.choice(place.keys)
        await daemon.admin(
            "credentials.set", upstream=place.name, name=key, secret=secret(place.name, key, number % 10_000)
        )

    async def kill_workers(self, seconds: float) -> None:
        """Kill the engine's process now and then, rarely enough for the gateway to start it again each time."""
        number = 0
        while True:
            pause = chance(self._seed, "worker", number).uniform(0.2, 0.4) * min(seconds, 300.0)
            await asyncio.sleep(pause)
            await self._host.kill_worker()
            number += 1
