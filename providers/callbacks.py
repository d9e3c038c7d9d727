"""The port to callback verification, and where a provider's verifier is found: all that the sidecar loads of it.

Imports no HTTP client and no SDK. A verifier sees the raw bytes; what it lets through is authentic, and still a hint.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Protocol

from providers.secret import Secret

BODY_BYTES_MAX = 1024 * 1024
TOLERANCE_S = 300
ENTRY_POINT_GROUP = "obol.callback_verifiers"

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "paypal": "providers.paypal.callbacks:build_verifier",
        "sandbox": "providers.sandbox.callbacks:build_verifier",
        "stripe": "providers.stripe.callbacks:build_verifier",
    }
)
"""Provider to `module:function`; the function is a VerifierBuilder."""


class Rejection(StrEnum):
    """Why a callback is not passed on. UNREADABLE is malformed (400); every other one is not authentic (401)."""

    UNSIGNED = "UNSIGNED"
    FORGED = "FORGED"
    STALE = "STALE"
    FUTURE = "FUTURE"
    NO_SECRET = "NO_SECRET"  # noqa: S105  a reason, not a credential
    UNREADABLE = "UNREADABLE"


class CallbackRejected(Exception):
    """The callback is not passed on. The message says what was seen, bounded, without signature or body."""

    def __init__(self, reason: Rejection, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """What an authentic callback says of itself. `merchant_id` is the provider's id of the account, "" if untold."""

    event_id: str
    event_type: str
    livemode: bool
    merchant_id: str = ""


@dataclass(frozen=True, slots=True)
class CallbackSettings:
    """One account's callbacks. `secrets` holds two while one is replaced; none means that everything is rejected."""

    provider: str
    account_id: str
    secrets: tuple[Secret, ...]
    tolerance_s: int = TOLERANCE_S
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class CallbackVerifier(Protocol):
    """Verifies the callbacks of one account."""

    async def verify(self, body: bytes, headers: Mapping[str, str], *, now_s: float) -> VerifiedEvent:
        """`headers` in any case of letters; `now_s` in unix seconds. Raises CallbackRejected, and nothing else."""
        ...

    async def close(self) -> None:
        """Give back what verifying needed (a provider's certificates come over the network)."""
        ...


VerifierBuilder = Callable[[CallbackSettings], CallbackVerifier]


def build_verifier(settings: CallbackSettings) -> CallbackVerifier:
    """The verifier of an account. Imports its provider's `callbacks` module alone. Raises ValueError."""
    if settings.tolerance_s <= 0:
        # In some libraries 0 switches the check off; here it would refuse everything. Neither is meant.
        raise ValueError(f"account {settings.account_id}: tolerance_s must be positive")
    return _builder(settings.provider)(settings)


def _builder(provider: str) -> VerifierBuilder:
    if provider in BUILT_IN:
        module, _, name = BUILT_IN[provider].partition(":")
        built_in: VerifierBuilder = getattr(importlib.import_module(module), name)
        return built_in
    found = {point.value: point for point in entry_points(group=ENTRY_POINT_GROUP, name=provider)}
    if len(found) != 1:
        raise ValueError(f"{len(found)} distributions verify callbacks of provider {provider!r}; one must")
    builder: VerifierBuilder = next(iter(found.values())).load()
    return builder
