"""What a consumer says of an observation, and the batch in which its word travels."""

import re
from dataclasses import dataclass, field

from obol.client.pace import Backoff
from obol.v1 import billing_observation_pb2 as observing
from obol.v1.observation_pb2 import Observation

BATCH_MAX = 500
"""The contract's bound for one Accept or Reject."""
REASON_CHARACTERS_MAX = 500
FORGOTTEN = "OBSERVATION_NOT_FOUND"
"""What a gateway says of decisions on observations that its database, restored from a backup, has lost."""
DROPPED = "the gateway knows one of them no more, as after a restore from backup; what it knows comes again"
_CONSUMER = re.compile(r"[a-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Accept:
    """The observation is a fact from now on."""


@dataclass(frozen=True, slots=True)
class Reject:
    """It is not; `reason` is 1 to 500 characters for a person."""

    reason: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.reason) <= REASON_CHARACTERS_MAX:
            raise ValueError(f"a rejection needs a reason of 1 to {REASON_CHARACTERS_MAX} characters")


Decision = Accept | Reject


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """The bounds of a consumer: memory is `batch_max` decisions and `buffered_max` observations.

    A decision is sent when `batch_max` are together, or `batch_age_s_max` after the first of them. A stream without a
    message for `silence_s_max` is given up; the gateway's heartbeat comes every 10 s. `backoff` paces reconnects.
    """

    batch_max: int = 100
    batch_age_s_max: float = 0.5
    buffered_max: int = 100
    silence_s_max: float = 30.0
    backoff: Backoff = field(default_factory=lambda: Backoff(delay_s=0.2, delay_s_max=15.0))

    def __post_init__(self) -> None:
        if not 1 <= self.batch_max <= BATCH_MAX or self.buffered_max < 1:
            raise ValueError(f"batch_max must be 1 to {BATCH_MAX}, buffered_max at least 1")


class Batch:
    """Decisions on their way, in the order of the observations. Times are monotonic seconds."""

    def __init__(self, consumer: str, limits: ConsumerLimits) -> None:
        if not _CONSUMER.fullmatch(consumer):
            raise ValueError("a consumer's name is 1 to 100 characters of [a-z0-9_.-]")
        self._consumer = consumer
        self._limits = limits
        self.clear()

    def clear(self) -> None:
        """Begin anew: the decisions were acknowledged."""
        self._accepted: list[str] = []
        self._rejections: list[observing.Rejection] = []
        self._began: float | None = None
        self.cursor = ""
        """Of the last observation in here."""

    def add(self, observation: Observation, decision: Decision, now: float) -> None:
        """Raises TypeError for what is no decision: a handler that forgets to return has not accepted anything."""
        if isinstance(decision, Accept):
            self._accepted.append(observation.observation_id)
        elif isinstance(decision, Reject):
            self._rejections.append(
                observing.Rejection(observation_id=observation.observation_id, reason=decision.reason)
            )
        else:
            raise TypeError(f"handle() must return Accept or Reject, not {type(decision).__name__}")
        self.cursor = observation.cursor
        if self._began is None:
            self._began = now

    def __len__(self) -> int:
        return len(self._accepted) + len(self._rejections)

    @property
    def full(self) -> bool:
        """Whether no more may join."""
        return len(self) >= self._limits.batch_max

    def due_in_s(self, now: float) -> float | None:
        """Seconds until it must go; None while it is empty."""
        return None if self._began is None else max(0.0, self._began + self._limits.batch_age_s_max - now)

    def accepted(self) -> observing.AcceptObservationsRequest | None:
        """What to accept, if anything."""
        if not self._accepted:
            return None
        return observing.AcceptObservationsRequest(consumer=self._consumer, observation_ids=self._accepted)

    def rejected(self) -> observing.RejectObservationsRequest | None:
        """What to reject, if anything."""
        if not self._rejections:
            return None
        return observing.RejectObservationsRequest(consumer=self._consumer, rejections=self._rejections)
