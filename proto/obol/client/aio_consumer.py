"""Follows observations durably, in an event loop: the asyncio form of `obol.client.consumer`, same promises."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from obol.client.aio import AioBillingObservationClient, AioWatch
from obol.client.cursors import CursorStore
from obol.client.decisions import DROPPED, FORGOTTEN, Batch, ConsumerLimits, Decision
from obol.client.errors import GatewayError, Unavailable
from obol.client.pace import AioPace
from obol.v1 import billing_observation_pb2 as observing
from obol.v1.observation_pb2 import Observation

_log = logging.getLogger("obol.client.consumer")


class AioObservationConsumer:
    """One named consumer, in one event loop.

    With `cursors` the place is kept there (called in a thread, since it waits for a disk); without, the gateway keeps
    it under the consumer's name. `handle` runs for one observation at a time.
    """

    def __init__(
        self,
        client: AioBillingObservationClient,
        consumer: str,
        handle: Callable[[Observation], Awaitable[Decision]],
        *,
        cursors: CursorStore | None = None,
        limits: ConsumerLimits | None = None,
        pace: AioPace | None = None,
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._handle = handle
        self._cursors = cursors
        self._limits = limits or ConsumerLimits()
        self._pace = pace or AioPace()
        self._batch = Batch(consumer, self._limits)
        self._stopped = asyncio.Event()
        self._cursor = ""
        self._repeats = 0
        self._has_dropped = False

    async def run(self) -> None:
        """Handle observations until `stop`; what was decided is sent before it returns, if the gateway is there.

        Outages are waited out. Raises what `handle` raises (the observation comes again), and GatewayError for what
        waiting does not mend: a cursor that is none, a caller who may not, a decision that contradicts an earlier one.
        Cancelling it leaves decisions unsent: they are made again.
        """
        self._cursor = "" if self._cursors is None else await asyncio.to_thread(self._cursors.load)
        try:
            await self._until_stopped()
        except Exception:
            await self._last_word()
            raise
        await self._last_word()

    def stop(self) -> None:
        """Let `run` return soon: after the observation in hand."""
        self._stopped.set()

    async def _until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                # First of all what a broken stream left over: what was decided is not decided twice.
                await self._acknowledge()
                await self._follow()
            except GatewayError as error:
                await self._wait_out(error)

    async def _follow(self) -> None:
        """One stream, from where we are until it ends."""
        request = observing.WatchObservationsRequest(consumer=self._consumer, cursor=self._cursor)
        reader = _Reader(self._client.watch_observations(request), self._stopped)
        try:
            waited_s = 0.0
            while not self._stopped.is_set():
                now = self._pace.now()
                due_in_s = self._batch.due_in_s(now)
                if due_in_s == 0.0:
                    await self._acknowledge()
                    continue
                left_s = self._limits.silence_s_max - waited_s
                if left_s <= 0.0:
                    raise Unavailable(f"nothing heard for {self._limits.silence_s_max} s", safe_to_retry=True)
                message = await reader.next(left_s if due_in_s is None else min(left_s, due_in_s))
                if message is None:
                    waited_s += self._pace.now() - now
                else:
                    await self._take(message)
                    # The handler's own time is not the stream's silence.
                    waited_s = 0.0
        finally:
            await reader.close()

    async def _take(self, message: observing.WatchObservationsResponse) -> None:
        self._repeats = 0
        if message.HasField("observation"):
            self._batch.add(message.observation, await self._handle(message.observation), self._pace.now())
            if self._batch.full:
                await self._acknowledge()
        elif message.HasField("heartbeat"):
            await self._acknowledge()
            await self._keep(message.heartbeat.cursor)

    async def _acknowledge(self) -> None:
        """Send what was decided, and only when the gateway has it keep the place."""
        if len(self._batch) == 0:
            return
        if (accepted := self._batch.accepted()) is not None:
            await self._client.accept_observations(accepted)
        if (rejected := self._batch.rejected()) is not None:
            await self._client.reject_observations(rejected)
        cursor = self._batch.cursor
        self._batch.clear()
        await self._keep(cursor)

    async def _last_word(self) -> None:
        """One more try for what was decided; what does not arrive comes again and is decided again."""
        try:
            await self._acknowledge()
        except GatewayError as error:
            _log.warning("consumer %s: %d decisions not sent: %s", self._consumer, len(self._batch), error)

    async def _keep(self, cursor: str) -> None:
        if cursor and cursor != self._cursor:
            if self._cursors is not None:
                await asyncio.to_thread(self._cursors.save, cursor)
            self._cursor = cursor
            self._has_dropped = False

    async def _wait_out(self, error: GatewayError) -> None:
        """Wait before trying again; raise what waiting does not mend."""
        if error.reason == FORGOTTEN and len(self._batch) and not self._has_dropped:
            _log.error("consumer %s: %s; %d decisions dropped: %s", self._consumer, error, len(self._batch), DROPPED)
            self._has_dropped = True
            self._batch.clear()
        elif not error.safe_to_retry:
            raise error
        if self._stopped.is_set():
            return
        self._repeats += 1
        wait_s = self._limits.backoff.wait_s(self._repeats, self._pace.uniform, error.retry_after_s)
        _log.warning("consumer %s: %s; again in %.1f s", self._consumer, error, wait_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), wait_s)


class _Reader:
    """Reads one message at a time and no further: while the handler is slow, gRPC holds the gateway back."""

    def __init__(self, watch: AioWatch, stopped: asyncio.Event) -> None:
        self._watch = watch
        self._read: asyncio.Task[observing.WatchObservationsResponse | None] | None = None
        self._stop = asyncio.create_task(stopped.wait())

    async def next(self, timeout_s: float) -> observing.WatchObservationsResponse | None:
        """The next message, None after `timeout_s` or at a stop. Raises GatewayError when the stream is over."""
        if self._read is None:
            self._read = asyncio.create_task(self._watch.read())
        # Waited for and not cancelled at the timeout: cancelling a read ends a gRPC stream.
        await asyncio.wait({self._read, self._stop}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not self._read.done():
            return None
        read, self._read = self._read, None
        message = read.result()
        if message is None:
            raise Unavailable("the gateway ended the stream", safe_to_retry=True)
        return message

    async def close(self) -> None:
        """End the stream."""
        self._watch.cancel()
        tasks = [task for task in (self._read, self._stop) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
