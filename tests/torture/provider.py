"""The provider's controls, and its own records: its imitation, asked past the gateway."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.torture.tortured import SANDBOX, Tortured

PAGE = 100


class Provider:
    """The imitation at `url`, as its operator, its dashboard's user and its customers reach it."""

    def __init__(self, url: str, tortured: Tortured = SANDBOX) -> None:
        self._url = url
        self.tortured = tortured
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def heal(self) -> None:
        """No more faults; what stalls goes on."""
        await self._ask("DELETE", "/control/faults")

    async def break_by(self, rates: Mapping[str, float], seed: int, *, reads_too: bool) -> None:
        """Let go of what stalls, then fail like this."""
        await self.heal()
        scope = {"method": "any" if reads_too else "POST", "path_prefix": "/v"}
        await self._ask("POST", "/control/faults", {"rates": dict(rates), "seed": seed, "scope": scope})

    async def injected(self) -> int:
        """How many faults there were so far."""
        shown = await self._ask("GET", "/control/faults")
        return sum(shown["injected"].values())

    async def deliver(self, *, duplicates: int, reorder: bool, delay_ms: int, seed: int) -> None:
        """Send callbacks like this from now on."""
        mode = {"mode": "normal", "duplicates": duplicates, "reorder": reorder, "delay_ms": delay_ms, "seed": seed}
        await self._ask("POST", "/control/webhooks", mode)

    async def redeliver(self) -> None:
        """Send every event once more."""
        await self._ask("POST", "/control/webhooks/redeliver", {"event_id": "all"}, refused_is_fine=True)

    async def deliveries(self) -> Mapping[str, Any]:
        """The delivery's mode and counts."""
        return await self._ask("GET", "/control/webhooks")

    async def act(self, provider_payment_id: str, said: Mapping[str, str]) -> None:
        """The customer approves or refuses."""
        await self._ask("POST", f"{self.tortured.page}/{provider_payment_id}", said, refused_is_fine=True)

    async def end_pending(self, *, fails: bool = False) -> None:
        """What pends comes through, or not, where it does not do so by itself."""
        if self.tortured.ends_pending:
            await self._ask("POST", self.tortured.ends_pending, {"fails": fails})

    async def dashboard(self, provider_payment_id: str, step: str, body: Mapping[str, Any]) -> None:
        """Somebody does something at the provider itself: dispute, refund."""
        await self._ask("POST", f"/control/payments/{provider_payment_id}/{step}", body, refused_is_fine=True)

    async def payments(self, api_key: str = "") -> AsyncIterator[dict[str, Any]]:
        """Every payment in an account's books (the main one's), where they say whose it is in words of their own."""
        path, after = self.tortured.payments_path, ""
        if not path:
            return
        while True:
            page = await self._ask("GET", f"{path}?limit={PAGE}{after}", api_key=api_key)
            for payment in page["data"]:
                yield payment
            if not page["has_more"]:
                return
            after = f"&after={page['data'][-1]['id']}"

    async def last_event(self) -> dict[str, Any]:
        """The newest event of the provider's list."""
        after = ""
        while True:
            page = await self._ask("GET", f"/v1/events?limit={PAGE}{after}")
            if not page["has_more"]:
                newest: dict[str, Any] = page["data"][-1]
                return newest
            after = f"&after={page['data'][-1]['id']}"

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        refused_is_fine: bool = False,
        api_key: str = "",
    ) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("the provider is not open")
        headers = {"Authorization": f"Bearer {api_key or self.tortured.api_key}"}
        async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
            if answer.status >= 400 and not refused_is_fine:
                raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")
            told: dict[str, Any] = json.loads(await answer.read())
            return told


def read_effects(log: Path) -> list[dict[str, Any]]:
    """Every effect that the provider has had."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
