"""Whether an account is set up at its provider as the gateway needs it, as an adapter may look for itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class SetupCheck:
    """One thing about an account's set-up at its provider, as it is seen; `problem` is what to mend, "" for nothing."""

    subject: str
    seen: str
    problem: str = ""


@runtime_checkable
class ChecksSetup(Protocol):
    """Can say whether an account is set up at its provider as the gateway needs it. Reads only."""

    async def check_setup(self, *, callback_path: str, timeout_s: float) -> Sequence[SetupCheck]:
        """Credentials, version, and that callbacks come to `callback_path` of some address. Raises nothing."""
        ...
