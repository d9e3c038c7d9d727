"""The rules of the design and the assumptions under them, each a switch of the model.

A rule is ours to keep; an assumption is about the world, and no code of ours makes it true. Either, switched off, must
show a counterexample, or it is told here as redundant.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Rule(StrEnum):
    """A rule of the design, named as the code names it."""

    CLAIM_BEFORE_CALL = "claim before call"
    UNIQUE_KEY = "unique key"
    PROVIDER_KEY = "provider key of (command, step, account)"
    SEND_WINDOW = "send window"
    LEASE = "lease"
    EPOCH_FENCE = "epoch fence"
    START_RESEND_FENCE = "start_resend where the epoch stands"
    START_RESEND_LEASE = "start_resend while the lease runs"
    LAST_SEND_MOVES = "last_send moves before a resend"
    RESEND_AGE = "resend below resend_age_max"
    KEY_WINDOW = "resend inside the key window less its margin"
    SENT_NEVER_FALLS = "sent never falls"
    ELSE_UNKNOWN = "everything else is UNKNOWN"
    EVIDENCE_ONLY = "UNKNOWN ends on evidence"
    CONSISTENT_LOOK = "absence by a consistent look"
    LONGEST_FLIGHT = "absence after last_send + longest flight"
    LOOK_BEGUN = "a look begun after it"
    REOPEN = "a NOT_SENT key may reopen"
    REOPEN_NOT_SENT_ONLY = "nothing else reopens"
    NEVER_AFTER_UNKNOWN = "no fresh key after UNKNOWN"
    NEVER_AFTER_NOT_SENT = "no fresh key after NOT_SENT"
    RESERVATION = "reservation"
    RESERVED_WHILE_UNKNOWN = "UNKNOWN keeps its reservation"
    CONDITIONAL_CLAIM = "the claim's update is conditional"
    VERSION_GUARD = "settle guarded by the version"
    OPERATION_ID = "operation id in the metadata"
    EXCLUSIVE = "one exclusive command"


class Assumption(StrEnum):
    """What the world is taken to be."""

    FLIGHT_IS_BOUNDED = "a request takes effect within the longest flight"
    CHECK_IS_SEND = "nothing comes between the last-moment check and the write"
    CLOCK_RUNS = "a stalled process's clock runs on"
    CLOCK_IS_STEADY = "the database's clock does not leap ahead"
    NO_DUPLICATES = "nothing on the way repeats a request"
    LOOKS_ARE_CONSISTENT = "a look that is called consistent is"
    KEYS_ARE_KEPT = "a provider keeps a key for its window"


PLACES: Mapping[Rule, str] = MappingProxyType(
    {
        Rule.CLAIM_BEFORE_CALL: "app/engine.py Engine._carry_out",
        Rule.UNIQUE_KEY: "store/*_statements.py INSERT_COMMAND, app/replays.py Replays.find",
        Rule.PROVIDER_KEY: "app/planning.py _reference",
        Rule.SEND_WINDOW: "app/engine.py send_before, providers/sent.py SendGuard",
        Rule.LEASE: "store/*_statements.py TAKE_DUE",
        Rule.EPOCH_FENCE: "app/learning.py settle_held, store SETTLE_OPERATION",
        Rule.START_RESEND_FENCE: "store/recovery.py start_resend, _held",
        Rule.START_RESEND_LEASE: "store/recovery.py start_resend",
        Rule.LAST_SEND_MOVES: "store/recovery.py start_resend (last_send_us)",
        Rule.RESEND_AGE: "app/recovery.py Recovery._may_resend (resend_age_s_max)",
        Rule.KEY_WINDOW: "app/recovery.py Recovery._may_resend (window_s)",
        Rule.SENT_NEVER_FALLS: "app/verdicts.py classify(resend=True), app/recovery.py _unresolved",
        Rule.ELSE_UNKNOWN: "app/verdicts.py classify",
        Rule.EVIDENCE_ONLY: "domain/states.py COMMAND_EDGES, app/recovery.py _wait",
        Rule.CONSISTENT_LOOK: "app/recovery.py Recovery._absent",
        Rule.LONGEST_FLIGHT: "app/recovery.py Recovery._absent (flight_us)",
        Rule.LOOK_BEGUN: "app/recovery.py _Case.begun_us",
        Rule.REOPEN: "app/replays.py Reopen, app/commands.py _run",
        Rule.REOPEN_NOT_SENT_ONLY: "store REOPEN_COMMAND, REOPEN_OPERATION",
        Rule.NEVER_AFTER_UNKNOWN: "the caller's: proto/obol/client/keys.py",
        Rule.NEVER_AFTER_NOT_SENT: "the caller's: proto/obol/client/repeat.py",
        Rule.RESERVATION: "store _GUARD, domain/payments.py refundable_minor",
        Rule.RESERVED_WHILE_UNKNOWN: "domain/states.py RESERVING_STATES",
        Rule.CONDITIONAL_CLAIM: "store _GUARD in TOUCH_PAYMENT",
        Rule.VERSION_GUARD: "store SETTLE_PAYMENT (expected_version)",
        Rule.OPERATION_ID: "app/verdicts.py own_movement, providers/*/requests.py metadata",
        Rule.EXCLUSIVE: "store _GUARD (busy_command_id)",
    }
)
