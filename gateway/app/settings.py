"""How long the engine, reconciliation and the event list wait for what; durations in seconds, every one a setting."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReconciliationSettings:
    """How often the provider's records are compared with ours, and how gently; durations in seconds.

    `every_s` 0: only when it is asked for. Else every account that can list its payments gets a reconciliation each
    `every_s`, of the `window_s` that ended `lag_s` ago. `pause_s` lies between two calls of a job at a provider.
    """

    every_s: float = 0.0
    window_s: float = 26 * 3600.0
    lag_s: float = 3_600.0
    poll_s: float = 5.0
    lease_s: float = 120.0
    pause_s: float = 0.05
    page: int = 100
    pages_per_turn: int = 20
    postpone_first_s: float = 5.0
    postpone_s_max: float = 600.0
    postponed_max: int = 10
    stuck_s: float = 600.0

    def __post_init__(self) -> None:
        if self.every_s < 0 or (self.every_s and self.window_s < self.every_s):
            raise ValueError("window_s must be every_s or longer, or what lies between two windows is never compared")
        if not 1 <= self.page <= 200:
            raise ValueError("page must be 1 to 200 records")


@dataclass(frozen=True, slots=True)
class EventSettings:
    """How missed callbacks are fetched from a provider's event list; durations in seconds.

    An event is taken from the list `lag_s` after its making, so that the ordinary delivery comes first. `first_s` is
    how far back an account that this gateway has not read before is read. `poll_s` 0: never.
    """

    poll_s: float = 60.0
    lag_s: float = 120.0
    first_s: float = 24 * 3600.0
    lease_s: float = 120.0
    page: int = 100
    pages_per_turn: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.page <= 100:
            raise ValueError("page must be 1 to 100 events")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The engine's durations and bounds.

    They hold together only so: a send starts before `send_window_s`, which ends before `lease_s`; a call that was sent
    at the last moment is over by `provider_timeout_s`; and nothing concludes from absence before `flight_s` more.
    """

    send_window_s: float = 10.0
    lease_s: float = 60.0
    provider_timeout_s: float = 30.0
    deadline_s_min: float = 1.0
    admission_wait_s: float = 2.0
    settle_retry_s: float = 20.0
    replay_wait_s: float = 30.0
    recovery_poll_s: float = 1.0
    recovery_batch: int = 32
    recovery_concurrency: int = 32
    unknown_check_first_s: float = 1.0
    unknown_check_s_max: float = 45.0
    pending_check_first_s: float = 30.0
    pending_check_s_max: float = 3_600.0
    resend_age_s_max: float = 600.0
    key_window_margin_s: float = 600.0
    unresolved_alarm_s: float = 600.0
    stuck_action_s: float = 24 * 3600.0
    stuck_processing_s: float = 3 * 24 * 3600.0
    stuck_hold_s: float = 5 * 24 * 3600.0
    undecided_alarm_s: float = 3_600.0
    callback_batch: int = 32
    callback_wait_first_s: float = 1.0
    callback_wait_s_max: float = 300.0
    callback_give_up_s: float = 3 * 24 * 3600.0
    sequencer_poll_s: float = 1.0
    heartbeat_s: float = 10.0
    watch_page: int = 200
    idempotency_window_s: float = 7 * 24 * 3600.0
    housekeeping_s: float = 60.0
    in_flight_max: int = 1_000

    def __post_init__(self) -> None:
        if not self.send_window_s < self.lease_s:
            raise ValueError("send_window_s must be shorter than lease_s, or a send could outlive its lease")
        if not self.send_window_s + self.provider_timeout_s < self.lease_s:
            raise ValueError(
                "send_window_s + provider_timeout_s must be shorter than lease_s, or recovery would overtake"
            )
        if self.idempotency_window_s < 24 * 3600:
            raise ValueError("idempotency_window_s must be 24 hours or more, never shorter than a provider's own")
