"""What the battery needs of the other side of the wire: a provider that it can watch, break and play the payer of."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.providers import ProviderAdapter, Snapshot
from providers.callbacks import CallbackSettings
from providers.http import WireLimits
from providers.secret import Secret


@dataclass(frozen=True)
class Methods:
    """Payment methods by what they do, in the provider's own tokens; None where it has no such one."""

    approves: str
    declines: str
    declines_unmapped: str | None = None
    requires_action: str | None = None
    processes: str | None = None
    refunds_pend: str | None = None
    not_raised: str | None = None
    risky: str | None = None
    too_risky: str | None = None


@dataclass(frozen=True)
class Fault:
    """A way to fail that the driver can cause, and what it means.

    `booked`: the write takes effect. `outcomes`: names of the outcomes that are right for it.
    """

    name: str
    booked: bool
    outcomes: frozenset[str]


@dataclass(frozen=True)
class Effect:
    """A movement of money on the provider's books. `operation` is ours, None where nobody asked."""

    kind: str
    amount_minor: int
    currency: str
    operation: str | None


class Driver(Protocol):
    """One running provider. Credentials that it plants are in `planted`."""

    @property
    def provider(self) -> str: ...

    @property
    def currency(self) -> str: ...

    @property
    def methods(self) -> Methods: ...

    @property
    def planted(self) -> Sequence[str]: ...

    @property
    def unmapped(self) -> Sequence[tuple[str, str]]:
        """What its adapters could not map, as (kind, value)."""
        ...

    def adapter(self, *, api_key: Secret | None = None, wire: WireLimits | None = None) -> ProviderAdapter:
        """A new adapter of the account; the battery closes it."""
        ...

    async def effects(self) -> Sequence[Effect]:
        """Everything that has taken effect, in order."""
        ...

    async def fail_next(self, fault: str, verb: str = "any") -> None:
        """Let the next write (of this verb: create, confirm, capture, adjust, cancel, refund) fail so."""
        ...

    async def heal(self) -> None:
        """End every fault; what hangs goes on."""
        ...

    async def payer_answers(self, snapshot: Snapshot, *, approves: bool) -> None:
        """The payer does what the payment's next action asks for."""
        ...

    async def refund_in_dashboard(self, snapshot: Snapshot, amount_minor: int) -> None:
        """Somebody refunds at the provider's side."""
        ...

    @property
    def callbacks(self) -> CallbackSettings:
        """The account's callbacks, with its signing secret."""
        ...

    def signed(self, body: bytes, *, secret: str, now_s: float) -> Mapping[str, str]:
        """The headers of a callback with this body."""
        ...


@dataclass(frozen=True)
class Driven:
    """A driver that can be started, and the faults that it can cause. `live`: the provider's own sandbox."""

    start: Callable[[], AbstractAsyncContextManager[Driver]]
    faults: Sequence[Fault]
    live: bool = False
