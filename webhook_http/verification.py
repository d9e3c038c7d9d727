"""Whether a callback is authentic: each account's verifier, and a decoy for accounts that there are not."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from starlette.datastructures import Headers

from providers.callbacks import (
    CallbackRejected,
    CallbackSettings,
    CallbackVerifier,
    Rejection,
    VerifiedEvent,
    build_verifier,
)
from providers.secret import Secret
from webhook_http.refusals import Refusal, Refused

EVENT_CHARACTERS_MAX = 255
"""Of an event's id and of its type, by the contract."""

HEADERS_MAX = 20
"""Of those that are handed over, by the contract."""

REFUSAL_BY_REJECTION: Mapping[Rejection, Refusal] = MappingProxyType(
    {
        Rejection.UNSIGNED: Refusal.UNSIGNED,
        Rejection.FORGED: Refusal.FORGED,
        Rejection.STALE: Refusal.STALE,
        Rejection.FUTURE: Refusal.FUTURE,
        Rejection.NO_SECRET: Refusal.NO_SECRET,
        Rejection.UNREADABLE: Refusal.UNREADABLE,
    }
)


class Verification:
    """The verifiers of all accounts. Raises ValueError where a provider has none."""

    def __init__(self, accounts: Iterable[CallbackSettings], *, now_s: Callable[[], float], seconds_max: float) -> None:
        self._now_s = now_s
        self._seconds_max = seconds_max
        self._verifiers: dict[tuple[str, str], CallbackVerifier] = {}
        self._decoys: dict[str, CallbackVerifier] = {}
        for account in accounts:
            self._verifiers[account.provider, account.account_id] = build_verifier(account)
            if account.provider not in self._decoys:
                nobody = replace(account, account_id="nobody", secrets=(Secret(secrets.token_hex(32)),))
                self._decoys[account.provider] = build_verifier(nobody)

    def knows(self, provider: str, account_id: str) -> bool:
        """Whether there is such an account."""
        return (provider, account_id) in self._verifiers

    async def verify(self, provider: str, account_id: str, body: bytes, headers: Mapping[str, str]) -> VerifiedEvent:
        """The authentic event. Raises Refused."""
        verifier = self._verifiers.get((provider, account_id))
        if verifier is None:
            await self._pretend(provider, body, headers)
            raise Refused(Refusal.UNKNOWN_ACCOUNT)
        event = await self._ask(verifier, body, headers)
        if not (1 <= len(event.event_id) <= EVENT_CHARACTERS_MAX and len(event.event_type) <= EVENT_CHARACTERS_MAX):
            raise Refused(Refusal.EVENT_UNNAMED)
        return event

    async def close(self) -> None:
        """Give back what the verifiers hold."""
        for verifier in (*self._verifiers.values(), *self._decoys.values()):
            await verifier.close()

    async def _pretend(self, provider: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Take as long as for an account that there is: the time of the answer must not tell either."""
        decoy = self._decoys.get(provider)
        if decoy is not None:
            try:
                await self._ask(decoy, body, headers)
            except Refused as refused:
                if refused.refusal is Refusal.VERIFIER_FAILED:
                    raise

    async def _ask(self, verifier: CallbackVerifier, body: bytes, headers: Mapping[str, str]) -> VerifiedEvent:
        try:
            async with asyncio.timeout(self._seconds_max):
                return await verifier.verify(body, headers, now_s=self._now_s())
        except CallbackRejected as rejected:
            raise Refused(REFUSAL_BY_REJECTION[rejected.reason], str(rejected)) from None
        except Exception as error:  # noqa: BLE001  a verifier's defect, or a certificate that does not come: nothing is
            # known of the callback then, so the provider has to send it again. Its text may quote the input.
            raise Refused(Refusal.VERIFIER_FAILED, type(error).__name__) from None


def flat(headers: Headers) -> dict[str, str]:
    """The headers with lower-case names; one that came twice is joined, so that no verifier sees half of it."""
    return {name: ", ".join(headers.getlist(name)) for name in headers}


def signing_headers(provider: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Those that a signature is made of: by their name the provider's own, at most 20 of them."""
    own = [(name, value) for name, value in headers.items() if name.startswith(f"{provider}-")]
    return dict(own[:HEADERS_MAX])
