"""What the tests of the simulators hold in hand: a clock that they set, a caller, and a receiver of webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

WAIT_SECONDS_MAX = 60.0
Json = dict[str, Any]


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Reply:
    """An answer of the sandbox."""

    status: int
    body: Json
    replayed: bool
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.body["error"]["code"])


class Caller:
    """A caller of the sandbox's API with one account's key."""

    def __init__(self, session: aiohttp.ClientSession, url: str, api_key: str) -> None:
        self._session, self.url, self.api_key = session, url, api_key

    async def post(self, path: str, body: Any = None, key: str | None = None) -> Reply:
        """POST with an idempotency key, a fresh one unless given."""
        sent = str(uuid4()) if key is None else key
        return await self._asked("POST", path, json={} if body is None else body, headers={"Idempotency-Key": sent})

    async def get(self, path: str) -> Reply:
        """GET."""
        return await self._asked("GET", path)

    async def control(self, path: str, body: Any = None, method: str = "POST") -> Reply:
        """A control, which needs no key."""
        return await self._asked(method, f"/control{path}", json={} if body is None else body)

    async def pay(self, token: str | None = "card_ok", key: str | None = None, **more: Any) -> Reply:
        """A payment of 1234 EUR cents, confirmed at once."""
        body = {"amount": 1234, "currency": "EUR", "confirm": True, **more}
        return await self.post("/v1/payments", body if token is None else {**body, "payment_method": token}, key)

    async def authorized(self, token: str = "card_ok", **more: Any) -> str:
        """The id of an authorized payment."""
        return str((await self.pay(token, capture="manual", **more)).body["id"])

    async def effects(self) -> list[Json]:
        """The effect log."""
        return list((await self._asked("GET", "/control/effects")).body["data"])

    async def injected(self) -> dict[str, int]:
        """How often each fault was injected."""
        return dict((await self._asked("GET", "/control/faults")).body["injected"])

    async def _asked(self, method: str, path: str, **more: Any) -> Reply:
        headers = {"Authorization": f"Bearer {self.api_key}", **more.pop("headers", {})}
        async with self._session.request(method, self.url + path, headers=headers, **more) as answer:
            body = await answer.json()
            replayed = answer.headers.get("Idempotent-Replayed") == "true"
            return Reply(answer.status, body, replayed, dict(answer.headers))


@dataclass
class Receiver:
    """Takes webhooks. Answers with the statuses queued in `statuses`, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """One delivery."""
        self.seen.append((dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port. Its URL has the account's place."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/webhooks/sandbox/{account}", receiver.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/sandbox/{{account}}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition; fails after WAIT_SECONDS_MAX."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not await holds():  # noqa: ASYNC110  the condition lies behind a socket
            await asyncio.sleep(0.005)


Opened = Callable[..., AbstractAsyncContextManager[Caller]]
