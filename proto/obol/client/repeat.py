"""A command, repeated with its key until there is an answer: the one way that a retry is not a second payment."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, Unpack

from google.protobuf.message import Message

from obol.client.calls import COMMAND_TIMEOUT_S, CallOptions, CallRecord
from obol.client.errors import GatewayError, Sent
from obol.client.pace import AioPace, Backoff, Pace

BUDGET_S = 60.0
ATTEMPTS_MAX = 10
SENT_EARLIER = "an earlier attempt may have reached the provider: repeat with the same idempotency key, never a new one"

Request = TypeVar("Request", bound=Message)
Request_contra = TypeVar("Request_contra", bound=Message, contravariant=True)
Reply_co = TypeVar("Reply_co", bound=Message, covariant=True)
Reply = TypeVar("Reply", bound=Message)


class Command(Protocol[Request_contra, Reply_co]):
    """A client's method for a command, such as `client.create_payment`."""

    def __call__(self, request: Request_contra, /, **options: Unpack[CallOptions]) -> Reply_co: ...


class AioCommand(Protocol[Request_contra, Reply_co]):
    """An aio client's method for a command."""

    def __call__(self, request: Request_contra, /, **options: Unpack[CallOptions]) -> Awaitable[Reply_co]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to go on: at most `attempts_max` calls that all begin within `budget_s` seconds."""

    budget_s: float = BUDGET_S
    attempts_max: int = ATTEMPTS_MAX
    backoff: Backoff = field(default_factory=Backoff)


def repeat_until_answered(
    command: Command[Request, Reply],
    request: Request,
    *,
    limits: Limits | None = None,
    pace: Pace | None = None,
    **options: Unpack[CallOptions],
) -> Reply:
    """Send `request` until there is a reply, the same bytes each time, under one correlation id.

    Repeats what is `safe_to_retry`, no sooner than the server asked for. A reply ends it, also one that says PENDING or
    UNKNOWN: that is an answer, and the observations bring the rest. Raises the last GatewayError when it is not safe to
    retry or the limits are used up, with `sent` raised to the highest of all attempts; ValueError without a key.
    """
    pace = pace or Pace()
    repetition = _Repetition(request, limits or Limits(), pace.now(), options)
    while True:
        try:
            return command(_copy(request, repetition.request), **repetition.options(pace.now()))
        except GatewayError as error:
            wait_s = repetition.wait_s(error, pace.now(), pace)
            if wait_s is None:
                raise
        pace.sleep(wait_s)


async def aio_repeat_until_answered(
    command: AioCommand[Request, Reply],
    request: Request,
    *,
    limits: Limits | None = None,
    pace: AioPace | None = None,
    **options: Unpack[CallOptions],
) -> Reply:
    """The same for asyncio. Cancelling it leaves the outcome open: call it again with the same request."""
    pace = pace or AioPace()
    repetition = _Repetition(request, limits or Limits(), pace.now(), options)
    while True:
        try:
            return await command(_copy(request, repetition.request), **repetition.options(pace.now()))
        except GatewayError as error:
            wait_s = repetition.wait_s(error, pace.now(), pace)
            if wait_s is None:
                raise
        await pace.sleep(wait_s)


class _Repetition:
    """One command on its way: its bytes as they were first sent, and how often and how far it got."""

    def __init__(self, request: Message, limits: Limits, began: float, options: CallOptions) -> None:
        if not getattr(request, "idempotency_key", ""):
            raise ValueError("a command without an idempotency_key cannot be repeated: it could take effect twice")
        # Kept as bytes: a caller that goes on using its message must not change what is repeated.
        self.request = request.SerializeToString(deterministic=True)
        self._limits = limits
        self._ends = began + limits.budget_s
        self._options = options
        self._attempts = 0
        self._sent = Sent.NO
        self._record = options.get("record") or CallRecord()
        self._record.correlation_id = ""

    def options(self, now: float) -> CallOptions:
        """The options of the next attempt: its deadline does not reach past the budget."""
        self._attempts += 1
        timeout_s = min(self._options.get("timeout_s", COMMAND_TIMEOUT_S), max(self._ends - now, 0.001))
        attempt: CallOptions = {**self._options, "timeout_s": timeout_s, "record": self._record}
        if self._record.correlation_id:
            # The first attempt's: one act, one id.
            attempt["correlation_id"] = self._record.correlation_id
        return attempt

    def wait_s(self, error: GatewayError, now: float, pace: Pace | AioPace) -> float | None:
        """Seconds until the next attempt; None where `error` is the end of it."""
        self._sent = self._sent.at_least(error.sent)
        if self._sent is not error.sent:
            error.sent = self._sent
            error.add_note(SENT_EARLIER)
        wait_s = self._limits.backoff.wait_s(self._attempts, pace.uniform, error.retry_after_s)
        ended = self._attempts >= self._limits.attempts_max or now + wait_s >= self._ends
        return None if ended or not error.safe_to_retry else wait_s


def _copy(like: Request, serialized: bytes) -> Request:
    copy = type(like)()
    copy.ParseFromString(serialized)
    return copy
