"""How long the engine waits for what; durations in seconds, every one a setting."""

from dataclasses import dataclass


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
