"""The mode that an operator sets an account to: what of ours may be sent to it.

A mode is a wish for the next seconds, not a fence: a process may know it a little late, and what was claimed before is
carried out. At most one effect never hangs on it.
"""

from dataclasses import dataclass
from enum import StrEnum


class ProviderMode(StrEnum):
    """ACTIVE takes everything; DRAINING no new payment, but every command on its payments; MAINTENANCE sends nothing.

    Reads go on in every mode: they move no money, and recovery ends by them.
    """

    ACTIVE = "ACTIVE"
    DRAINING = "DRAINING"
    MAINTENANCE = "MAINTENANCE"


@dataclass(frozen=True, slots=True)
class AccountMode:
    """An account's mode: who set it, why, and when (unix microseconds; 0 where nobody ever did)."""

    account_id: str
    mode: ProviderMode = ProviderMode.ACTIVE
    reason: str = ""
    actor: str = ""
    changed_time_us: int = 0
