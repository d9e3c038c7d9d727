"""The weather: what goes wrong around the gateways while they are killed. Provider, callbacks, database."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from simulators.faults import FAULTS
from tests.torture.database import Database
from tests.torture.provider import Provider

CALM_SHARE = 0.25
SHUT_SHARE = 0.3
RARE = {"huge_body": 0.01, "slow_drip": 0.05}


class Weather:
    """Changes every few seconds, by seed, until `stop`."""

    def __init__(
        self, provider: Provider, database: Database, shut_other: Callable[[bool], Awaitable[None]], seed: int
    ) -> None:
        self._over = asyncio.Event()
        self.kinds: Counter[str] = Counter()
        self._provider = provider
        self._database = database
        self._shut_other = shut_other
        self._random = random.Random(f"{seed}/weather")

    def stop(self) -> None:
        """Let it clear up."""
        self._over.set()

    async def run(self) -> None:
        """Until `stop`; leaves a clear sky."""
        while not self._over.is_set():
            await self._change()
            ends = asyncio.get_running_loop().time() + 1.0 + 4.0 * self._random.random()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ends):
                    await self._over.wait()
        await self._shut_other(False)
        await self._provider.heal()
        await self._provider.deliver(duplicates=0, reorder=False, delay_ms=0, seed=0)

    async def _change(self) -> None:
        chance = self._random
        drawn = chance.random()
        seed = chance.randrange(2**31)
        if drawn < CALM_SHARE:
            rates = {}
        elif drawn < 0.65:
            rates = {name: 0.02 * RARE.get(name, 1.0) for name in FAULTS}
        else:
            name = chance.choice(sorted(FAULTS))
            rates = {name: (0.2 + 0.5 * chance.random()) * RARE.get(name, 1.0)}
        self.kinds["calm" if not rates else "storm" if len(rates) == 1 else "rough"] += 1
        await self._provider.break_by(rates, seed, reads_too=chance.random() < 0.3)
        await self._provider.deliver(
            duplicates=chance.choice((0, 0, 1, 3)),
            reorder=chance.random() < 0.4,
            delay_ms=chance.choice((0, 0, 50, 400)),
            seed=seed,
        )
        await self._shut_other(chance.random() < SHUT_SHARE)
        if chance.random() < 0.4:
            await self._provider.end_pending(fails=chance.random() < 0.3)
        if chance.random() < 0.4 and (happened := await self._database.suffer(chance)):
            self.kinds[happened] += 1
