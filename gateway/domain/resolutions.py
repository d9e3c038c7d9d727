"""Resolutions: what two operators hold to have happened to a command whose outcome no evidence will tell."""

from dataclasses import dataclass
from enum import StrEnum

PROPOSAL_AGE_S_MAX = 7 * 24 * 3600
"""A proposal that nobody approved for so long is stale: what was seen then may not hold any more."""


class Resolution(StrEnum):
    """What an operator holds to have happened."""

    EXECUTED = "EXECUTED"
    NOT_EXECUTED = "NOT_EXECUTED"


@dataclass(frozen=True, slots=True)
class Proposal:
    """One operator's word on an UNKNOWN operation, for another to approve.

    Bound to the `version` of the payment and the `last_send_us` of the operation at which it was made: recovery's looks
    raise the operation's epoch and move neither, whatever is learned or sent moves one. `provider_result_id` is the
    provider's id of the capture, the refund or the payment; `provider_movement_id` that of the capture or hold of a
    create or confirm. `proposed_time_us` is the database's.
    """

    proposal_id: str
    tenant_id: str
    payment_id: str
    command_id: str
    operation_id: str
    resolution: Resolution
    reason: str
    actor: str
    correlation_id: str
    version: int
    last_send_us: int
    provider_result_id: str = ""
    provider_movement_id: str = ""
    proposed_time_us: int = 0


@dataclass(frozen=True, slots=True)
class Approval:
    """A second operator's yes, written by the settle that carries it out. `approved_time_us` is the database's."""

    proposal_id: str
    tenant_id: str
    proposed_by: str
    actor: str
    correlation_id: str
    reason: str
    approved_time_us: int = 0
