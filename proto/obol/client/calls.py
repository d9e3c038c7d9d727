"""One call, sync or aio: its deadline, its metadata, and what the answer's metadata says."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from obol.client.context import Caller, Metadata, Operator, new_correlation_id

COMMAND_TIMEOUT_S = 30.0
"""A provider may take its time, and a repeated key waits for the first call to finish."""
READ_TIMEOUT_S = 5.0
DECISION_TIMEOUT_S = 10.0
"""Accept and Reject."""


class CallRecord:
    """What a call's metadata said: pass one in, read it afterwards, also when the call raised."""

    def __init__(self) -> None:
        self.correlation_id = ""
        self.replayed = False
        """Whether the idempotency key had been answered before: this is that answer again."""


class CallOptions(TypedDict, total=False):
    """What every call takes beside its request."""

    caller: Caller | Operator
    """In whose name, instead of the client's own."""
    correlation_id: str
    """For this call, instead of the caller's or a fresh one."""
    timeout_s: float
    """The deadline, instead of the kind of call's default."""
    record: CallRecord


@dataclass(frozen=True, slots=True)
class Envelope:
    """What goes with one request."""

    metadata: Metadata
    timeout_s: float
    correlation_id: str
    record: CallRecord | None

    def opened(self, initial_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Keep what the answer's initial metadata says."""
        if self.record is not None:
            self.record.replayed = ("obol-replayed", "true") in {(key, value) for key, value in initial_metadata}


def envelope(own: Caller | Operator | None, options: CallOptions, timeout_s: float) -> Envelope:
    """The envelope of one call. Raises ValueError where nobody is named as the caller."""
    caller = options.get("caller", own)
    if caller is None:
        raise ValueError("a call needs a caller: the client's own, or caller=...")
    correlation_id = options.get("correlation_id") or caller.correlation_id or new_correlation_id()
    record = options.get("record")
    if record is not None:
        record.correlation_id, record.replayed = correlation_id, False
    return Envelope(caller.metadata(correlation_id), options.get("timeout_s", timeout_s), correlation_id, record)
