"""Follows observations durably, in a thread: at least once, in order, and the place is kept only after the word is.

    consumer = ObservationConsumer(BillingObservationClient(channel, caller), "ledger", handle)
    consumer.run()          # until stop(), from a signal handler or another thread

An observation may come again (after a crash, a reconnect, a lost acknowledgement): `handle` must decide the same again.
"""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from obol.client.cursors import CursorStore
from obol.client.decisions import DROPPED, FORGOTTEN, Batch, ConsumerLimits, Decision
from obol.client.errors import GatewayError, Unavailable
from obol.client.gateway import BillingObservationClient, Watch
from obol.client.pace import Pace
from obol.v1 import billing_observation_pb2 as observing
from obol.v1.observation_pb2 import Observation

_log = logging.getLogger("obol.client.consumer")
_OFFER_S = 0.2


@dataclass(frozen=True, slots=True)
class _End:
    """The stream is over; `error` where it did not end by itself."""

    error: GatewayError | None


class ObservationConsumer:
    """One named consumer. `run` and `handle` belong to one thread; `stop` may come from anywhere.

    With `cursors` the place is kept there; without, the gateway keeps it under the consumer's name.
    """

    def __init__(
        self,
        client: BillingObservationClient,
        consumer: str,
        handle: Callable[[Observation], Decision],
        *,
        cursors: CursorStore | None = None,
        limits: ConsumerLimits | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._handle = handle
        self._cursors = cursors
        self._limits = limits or ConsumerLimits()
        self._pace = pace or Pace()
        self._batch = Batch(consumer, self._limits)
        self._stopped = threading.Event()
        self._watch: Watch | None = None
        self._cursor = ""
        self._repeats = 0
        self._has_dropped = False

    def run(self) -> None:
        """Handle observations until `stop`; what was decided is sent before it returns, if the gateway is there.

        Outages are waited out. Raises what `handle` raises (the observation comes again), and GatewayError for what
        waiting does not mend: a cursor that is none, a caller who may not, a decision that contradicts an earlier one.
        """
        self._cursor = "" if self._cursors is None else self._cursors.load()
        try:
            self._until_stopped()
        except Exception:
            self._last_word()
            raise
        self._last_word()

    def stop(self) -> None:
        """Let `run` return soon: after the observation in hand."""
        self._stopped.set()
        if (watch := self._watch) is not None:
            watch.cancel()

    def _until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                # First of all what a broken stream left over: what was decided is not decided twice.
                self._acknowledge()
                self._follow()
            except GatewayError as error:
                self._wait_out(error)

    def _follow(self) -> None:
        """One stream, from where we are until it ends."""
        request = observing.WatchObservationsRequest(consumer=self._consumer, cursor=self._cursor)
        watch = self._watch = self._client.watch_observations(request)
        reader = _Reader(watch, self._limits.buffered_max)
        try:
            waited_s = 0.0
            while not self._stopped.is_set():
                now = self._pace.now()
                due_in_s = self._batch.due_in_s(now)
                if due_in_s == 0.0:
                    self._acknowledge()
                    continue
                left_s = self._limits.silence_s_max - waited_s
                if left_s <= 0.0:
                    raise Unavailable(f"nothing heard for {self._limits.silence_s_max} s", safe_to_retry=True)
                message = reader.next(left_s if due_in_s is None else min(left_s, due_in_s))
                if message is None:
                    waited_s += self._pace.now() - now
                else:
                    self._take(message)
                    # The handler's own time is not the stream's silence.
                    waited_s = 0.0
        finally:
            reader.close()

    def _take(self, message: observing.WatchObservationsResponse) -> None:
        self._repeats = 0
        if message.HasField("observation"):
            self._batch.add(message.observation, self._handle(message.observation), self._pace.now())
            if self._batch.full:
                self._acknowledge()
        elif message.HasField("heartbeat"):
            self._acknowledge()
            self._keep(message.heartbeat.cursor)

    def _acknowledge(self) -> None:
        """Send what was decided, and only when the gateway has it keep the place."""
        if len(self._batch) == 0:
            return
        if (accepted := self._batch.accepted()) is not None:
            self._client.accept_observations(accepted)
        if (rejected := self._batch.rejected()) is not None:
            self._client.reject_observations(rejected)
        cursor = self._batch.cursor
        self._batch.clear()
        self._keep(cursor)

    def _last_word(self) -> None:
        """One more try for what was decided; what does not arrive comes again and is decided again."""
        try:
            self._acknowledge()
        except GatewayError as error:
            _log.warning("consumer %s: %d decisions not sent: %s", self._consumer, len(self._batch), error)

    def _keep(self, cursor: str) -> None:
        if cursor and cursor != self._cursor:
            if self._cursors is not None:
                self._cursors.save(cursor)
            self._cursor = cursor
            self._has_dropped = False

    def _wait_out(self, error: GatewayError) -> None:
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
        self._stopped.wait(wait_s)


class _Reader:
    """Reads a stream in a thread of its own into a bounded queue, so that waiting can end without a message."""

    def __init__(self, watch: Watch, buffered_max: int) -> None:
        self._watch = watch
        self._queue: queue.Queue[observing.WatchObservationsResponse | _End] = queue.Queue(buffered_max)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="obol-observations", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> observing.WatchObservationsResponse | None:
        """The next message, None after `timeout_s`. Raises GatewayError when the stream is over."""
        try:
            message = self._queue.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None
        if isinstance(message, _End):
            raise message.error or Unavailable("the gateway ended the stream", safe_to_retry=True)
        return message

    def close(self) -> None:
        """End the stream and the thread."""
        self._closed.set()
        self._watch.cancel()
        self._thread.join()

    def _read(self) -> None:
        try:
            for message in self._watch:
                self._offer(message)
                if self._closed.is_set():
                    return
        except GatewayError as error:
            self._offer(_End(error))
        else:
            self._offer(_End(None))

    def _offer(self, message: observing.WatchObservationsResponse | _End) -> None:
        """Wait for room: while the handler is slow the stream is not read, and the gateway holds back."""
        while not self._closed.is_set():
            try:
                self._queue.put(message, timeout=_OFFER_S)
            except queue.Full:
                continue
            return
