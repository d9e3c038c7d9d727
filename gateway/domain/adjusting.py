"""The port to what adjusts an authorization; a capability of an adapter like those of `gateway.domain.providers`."""

from typing import Protocol, runtime_checkable

from gateway.domain.commands import PreparedRequest
from gateway.domain.payments import Payment
from gateway.domain.providers import OperationReference


@runtime_checkable
class Adjusts(Protocol):
    """Raises the total of an authorization, or makes it valid anew (`Capabilities.adjustment` says which).

    What comes of it is an authorization of its own among the facts, of `total_minor`, with the operation's id and the
    former one as its `parent_id`. It may have one only where the provider's answer to this very key, or a reference of
    ours beside the new total, shows it: a total that somebody else may have asked for is no evidence.
    """

    def prepare_adjust(
        self, reference: OperationReference, payment: Payment, *, total_minor: int
    ) -> PreparedRequest: ...
