"""The killing: which process dies when, and what it is doing at that moment."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tests.torture.callbacks import Hook
from tests.torture.processes import Process
from tests.torture.relay import POINTS, Trap
from tests.torture.site import HANG_S, LEASE_S, PAUSE_S, Site

WAIT_S = 0.5
"""How long a trap may stay empty before the process is killed where it stands."""
STALL_WAIT_S = 1.5
"""How long a gateway that is to stop before its next send is waited for to have one."""
LOOK_HELD_S = 1.2
"""Shorter than a gateway waits for an answer."""
ANY = ("any", "any", "any", "lookup", "lookup")
"""Requests to lie in wait for, beside those of the provider's own verbs."""


class Killer:
    """Kills until `kills_max`; `replied` and `observed` are hooks that others call once at their next event.

    A gateway that serves is left alone for `alive_s` on average before it is lain in wait for.
    """

    def __init__(self, site: Site, seed: int, kills_max: int, alive_s: float) -> None:
        self.kills = 0
        self.pauses = 0
        self.kinds: Counter[str] = Counter()
        self.replied: list[Hook] = []
        self.observed: list[Hook] = []
        self.restart_s: list[float] = []
        self._site = site
        self._verbs = (*ANY, *site.tortured.verbs)
        self._random = random.Random(f"{seed}/killer")
        self._kills_max = kills_max
        self._alive_s = alive_s
        self._paused = False

    @property
    def done(self) -> bool:
        """Whether it has killed enough."""
        return self.kills >= self._kills_max

    async def reap_gateway(self, number: int) -> None:
        """Kill this gateway again and again, and start it again each time."""
        chance = random.Random(self._random.random())
        process = self._site.gateways[number]
        kinds: Sequence[tuple[float, Callable[[], Awaitable[None]]]] = (
            (0.42, lambda: self._in_exchange(number, chance)),
            (0.16, lambda: self._anywhere(process, chance)),
            (0.08, lambda: self._by_hook("replied", process, self.replied, chance.choice((0.0, 0.0, 0.003)))),
            (0.08, lambda: self._by_hook("observed", process, self.observed, 0.0)),
            (0.07, lambda: self._by_hook("callback acknowledged", process, self._site.callbacks.answered, 0.0)),
            (0.07, lambda: self._by_hook("callback arriving", process, self._site.callbacks.arriving, 0.006)),
            (0.08, lambda: self._starting(process, chance)),
            (0.02 if len(self._site.gateways) == 1 else 0.08, lambda: self._paused_past_lease(number, chance)),
            (0.02 if len(self._site.gateways) == 1 else 0.16, lambda: self._stalled_before_send(number, chance)),
        )
        while not self.done:
            began = time.monotonic()
            if not process.alive:
                await process.start()
            if chance.random() < 0.9:
                await self._site.listening(number)
                self.restart_s.append(time.monotonic() - began)
                await asyncio.sleep(2 * self._alive_s * chance.random())
            kill = chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])[0]
            await kill()
            if chance.random() < 0.05:
                await asyncio.sleep(chance.random() * 0.5)

    async def reap_sidecar(self, number: int) -> None:
        """Kill a sidecar now and then."""
        chance = random.Random(self._random.random())
        process = self._site.sidecars[number]
        while not self.done:
            await asyncio.sleep(1.0 + 4.0 * chance.random())
            self._kill(process, "sidecar")
            await process.ended.wait()
            await asyncio.sleep(chance.random() * 0.3)
            await process.start()

    async def massacre(self) -> None:
        """Kill everything but the provider at one moment, now and then."""
        chance = random.Random(self._random.random())
        while not self.done:
            await asyncio.sleep(5.0 + 15.0 * chance.random())
            for process in (*self._site.gateways, *self._site.sidecars):
                self._kill(process, "all at once")

    def wake(self) -> None:
        """Wake whatever still stands still."""
        for process in self._site.gateways:
            process.signal(signal.SIGCONT)

    def _kill(self, process: Process, kind: str) -> None:
        if process.kill():
            # Sidecars die too, and do not count: a gateway is what is hard to kill well.
            self.kills += process in self._site.gateways
            self.kinds[kind] += 1

    async def _in_exchange(self, number: int, chance: random.Random) -> None:
        """At an exact point of an exchange with the provider."""
        process, relay = self._site.gateways[number], self._site.relays[number]
        point, verb = chance.choice(POINTS), chance.choice(self._verbs)
        drops = chance.random() < 0.5
        delay_s = chance.choice((0.0, 0.001, 0.003, 0.01))
        if point in ("claimed", "half_sent") and chance.random() < 0.3:
            delay_s = HANG_S * chance.random()
        trap = Trap(point, partial(is_of, verb), partial(self._kill, process, f"{point} {verb}"), delay_s, drops)
        relay.set(trap)
        await _either(trap.sprung, process.ended, WAIT_S)
        relay.remove(trap)
        if not trap.sprung.is_set():
            self._kill(process, f"anywhere (no {point} {verb} came)")
        await process.ended.wait()

    async def _anywhere(self, process: Process, chance: random.Random) -> None:
        await _either(process.ended, process.ended, chance.random() * WAIT_S)
        self._kill(process, "anywhere")
        await process.ended.wait()

    async def _by_hook(self, kind: str, process: Process, hooks: list[Hook], delay_s: float) -> None:
        struck = asyncio.Event()

        def strike() -> None:
            struck.set()
            if delay_s:
                asyncio.get_running_loop().call_later(delay_s, self._kill, process, kind)
            else:
                self._kill(process, kind)

        hooks.append(strike)
        await _either(struck, process.ended, WAIT_S)
        if not struck.is_set():
            if strike in hooks:
                hooks.remove(strike)
            self._kill(process, f"anywhere (no {kind} came)")
        await process.ended.wait()

    async def _starting(self, process: Process, chance: random.Random) -> None:
        """Twice: now, and while it starts."""
        self._kill(process, "anywhere")
        await process.ended.wait()
        await process.start()
        await asyncio.sleep(chance.random() * 0.25)
        self._kill(process, "starting")
        await process.ended.wait()

    async def _paused_past_lease(self, number: int, chance: random.Random) -> None:
        """Stopped in the middle of an exchange, for longer than its lease; woken, and left to live or killed."""
        if self._paused:
            return
        self._paused = True
        try:
            await self._stand_still(number, chance)
        finally:
            self._paused = False

    async def _stalled_before_send(self, number: int, chance: random.Random) -> None:
        """Stopped between a claim and its send, for about as long as its lease; woken, and left to live."""
        process = self._site.gateways[number]
        if self._paused or not process.alive:
            return
        self._paused = True
        flag = self._site.stall(process)
        try:
            await _until_it_stands_still(process, STALL_WAIT_S)
            if process.stands_still:
                self.pauses += 1
                self.kinds["stopped between claim and send"] += 1
                await self._sleep_through_its_lease(number, chance)
        finally:
            flag.unlink(missing_ok=True)
            process.signal(signal.SIGCONT)
            self._paused = False
        await _either(process.ended, process.ended, chance.random() * 2.0)

    async def _sleep_through_its_lease(self, number: int, chance: random.Random) -> None:
        """For a while longer than a lease, or until somebody else looks after what it held: that look is held then."""
        process, others = self._site.gateways[number], [*self._site.relays[:number], *self._site.relays[number + 1 :]]
        if not others or chance.random() < 0.4:
            await _either(process.ended, process.ended, PAUSE_S * (1.0 + 0.6 * chance.random()))
            return
        await _either(process.ended, process.ended, LEASE_S)
        looked = asyncio.Event()
        traps = [(relay, Trap("claimed", partial(is_of, "lookup"), looked.set, LOOK_HELD_S)) for relay in others]
        for relay, trap in traps:
            relay.set(trap)
        await _either(looked, process.ended, PAUSE_S)
        self.kinds["woken under another's look"] += looked.is_set()
        for relay, trap in traps:
            relay.remove(trap)

    async def _stand_still(self, number: int, chance: random.Random) -> None:
        process, relay = self._site.gateways[number], self._site.relays[number]

        def stop() -> None:
            if process.signal(signal.SIGSTOP):
                self.pauses += 1

        point = chance.choice(POINTS)
        trap = Trap(point, partial(is_of, chance.choice(self._verbs)), stop)
        relay.set(trap)
        await _either(trap.sprung, process.ended, WAIT_S)
        relay.remove(trap)
        if not trap.sprung.is_set():
            stop()
        await self._sleep_through_its_lease(number, chance)
        process.signal(signal.SIGCONT)
        self.kinds[f"stopped past its lease at {point}"] += 1
        await _either(process.ended, process.ended, chance.random() * 2.0)


def is_of(verb: str, request: str) -> bool:
    """Whether an HTTP request line is this verb's."""
    method, _, rest = request.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if verb == "lookup":
        return method == "GET"
    return method == "POST" and verb in ("any", path.rpartition("/")[2])


async def _until_it_stands_still(process: Process, within_s: float) -> None:
    ended = process.ended
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while not (ended.is_set() or process.stands_still):  # noqa: ASYNC110  a signal says so to nobody
                await asyncio.sleep(0.02)


async def _either(first: asyncio.Event, second: asyncio.Event, within_s: float) -> None:
    """Until one of both is set, or time is up."""
    waits = [asyncio.ensure_future(event.wait()) for event in {first, second}]
    await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
