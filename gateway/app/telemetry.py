"""The port to metrics: what the use cases and the engine tell of themselves, in labels of bounded number."""

from typing import Protocol


class Telemetry(Protocol):
    """Counts and times; never raises, never waits. `seconds` are monotonic durations."""

    def attempt(self, provider: str, account_id: str, kind: str, outcome: str, seconds: float) -> None:
        """One call to a provider: `kind` is an operation's, FETCH or LOOKUP; `outcome` the answer's class."""
        ...

    def command(self, provider: str, kind: str, state: str, reason: str) -> None:
        """A command reached `state`; `reason` is its decline's, empty where there is none."""
        ...

    def replay(self, rpc: str) -> None:
        """A repeated idempotency key was answered from what is stored."""
        ...

    def refusal(self, rpc: str, reason: str) -> None:
        """A command was refused before its claim."""
        ...

    def failover(self, account_id: str, reason: str) -> None:
        """A create left an account: NOT_SENT or DECLINED; ENDED where it could not go on after a decline."""
        ...

    def recovery(self, provider: str, kind: str, result: str) -> None:
        """Recovery looked after one operation: resolved, resent, waiting, absent, exhausted, lost."""
        ...

    def lost_fence(self, kind: str) -> None:
        """A settle found that somebody else had settled: its reply was kept as evidence."""
        ...

    def callback(self, provider: str, state: str) -> None:
        """A callback was received (RECEIVED, DUPLICATE) or came to rest (a CallbackState)."""
        ...

    def contradiction(self, provider: str, what: str) -> None:
        """Facts that contradict a final answer or our terms were seen."""
        ...

    def alarm(self, provider: str, kind: str) -> None:
        """An operation is unresolved for longer than its alarm allows; told once for each."""
        ...

    def unmapped(self, provider: str, field: str) -> None:
        """A provider's value is in no mapping table."""
        ...

    def reconciliation(self, account_id: str, state: str) -> None:
        """A reconciliation ended: DONE or FAILED."""
        ...

    def reconciliation_break(self, account_id: str, kind: str, mends: bool) -> None:
        """A break was found; `mends`: merging the provider's evidence removes it, else a person must look."""
        ...

    def fetched_event(self, provider: str, account_id: str, result: str) -> None:
        """An event came from the provider's list: MISSED (now in the inbox), KNOWN, or GAP (some are kept no more)."""
        ...


class Silence:
    """Telemetry that keeps nothing."""

    def attempt(self, provider: str, account_id: str, kind: str, outcome: str, seconds: float) -> None: ...

    def command(self, provider: str, kind: str, state: str, reason: str) -> None: ...

    def replay(self, rpc: str) -> None: ...

    def refusal(self, rpc: str, reason: str) -> None: ...

    def failover(self, account_id: str, reason: str) -> None: ...

    def recovery(self, provider: str, kind: str, result: str) -> None: ...

    def lost_fence(self, kind: str) -> None: ...

    def callback(self, provider: str, state: str) -> None: ...

    def contradiction(self, provider: str, what: str) -> None: ...

    def alarm(self, provider: str, kind: str) -> None: ...

    def unmapped(self, provider: str, field: str) -> None: ...

    def reconciliation(self, account_id: str, state: str) -> None: ...

    def reconciliation_break(self, account_id: str, kind: str, mends: bool) -> None: ...

    def fetched_event(self, provider: str, account_id: str, result: str) -> None: ...
