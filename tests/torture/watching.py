"""Billing's watchers: one keeps its own cursor and must see everything once, one leaves its place to the gateway.

What they saw is compared with the database at the end: the first one's list must be the log itself.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable

from obol.client import (
    Accept,
    AioBillingObservationClient,
    AioObservationConsumer,
    Backoff,
    ConsumerLimits,
    Decision,
    GatewayError,
)
from obol.v1 import billing_observation_pb2 as observing
from obol.v1.observation_pb2 import Observation
from tests.torture.defects import is_defect

CONSUMER = "ledger"
SILENCE_S_MAX = 3.0
AGAIN_S = 0.05


class CursorWatcher:
    """Resumes after the last observation that it got. `observed` is called at each."""

    def __init__(self, client: AioBillingObservationClient, observed: Callable[[], None]) -> None:
        self.seen: list[tuple[str, str, int]] = []
        """(observation, payment, version) in the order of arrival, with whatever came twice."""
        self.disconnects: Counter[str] = Counter()
        self.defects: list[str] = []
        self._client = client
        self._observed = observed
        self._cursor = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            request = observing.WatchObservationsRequest(cursor=self._cursor)
            watch = self._client.watch_observations(request)
            try:
                while (message := await asyncio.wait_for(watch.read(), SILENCE_S_MAX)) is not None:
                    self._take(message)
                self.disconnects["ended"] += 1
            except TimeoutError:
                self.disconnects["silent"] += 1
            except GatewayError as error:
                self.disconnects[error.reason or error.code.name] += 1
                if is_defect(error):
                    self.defects.append(f"the watcher met a defect: {error} ({error.correlation_id})")
            finally:
                watch.cancel()
            await asyncio.sleep(AGAIN_S)

    def _take(self, message: observing.WatchObservationsResponse) -> None:
        if message.HasField("heartbeat"):
            self._cursor = message.heartbeat.cursor
            return
        seen = message.observation
        self.seen.append((seen.observation_id, seen.payment_id, seen.payment_version))
        self._cursor = seen.cursor
        self._observed()


class NamedConsumer:
    """The kit's consumer, whose place the gateway keeps: at least once, and no more than it had not acknowledged."""

    def __init__(self, client: AioBillingObservationClient, name: str = CONSUMER) -> None:
        self.handled: list[tuple[str, str, int]] = []
        limits = ConsumerLimits(
            batch_max=20, batch_age_s_max=0.2, silence_s_max=SILENCE_S_MAX, backoff=Backoff(AGAIN_S, 0.3)
        )
        self._consumer = AioObservationConsumer(client, name, self._handle, limits=limits)

    async def run(self) -> None:
        """Follow until cancelled; what waiting does not mend ends it."""
        await self._consumer.run()

    async def stop(self, running: "asyncio.Task[None]", within_s: float) -> None:
        """Send what is decided, and end."""
        self._consumer.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running, within_s)

    async def _handle(self, observation: Observation) -> Decision:
        self.handled.append((observation.observation_id, observation.payment_id, observation.payment_version))
        return Accept()
