"""The relay of callbacks: between the provider and the sidecars, with a record of what got its 2xx."""

import asyncio
import random
from collections.abc import Callable, Sequence

import aiohttp
from aiohttp import web

from tests.torture.tortured import SANDBOX, Tortured

HOST = "127.0.0.1"
TIMEOUT_S = 8.0
FORGED_SHARE = 0.02
DOUBLED_SHARE = 0.1

Hook = Callable[[], None]


class CallbackRelay:
    """Passes each callback to one sidecar, some to two at once, and now and then a forged one beside it."""

    def __init__(self, port: int, sidecar_ports: Sequence[int], seed: int, tortured: Tortured = SANDBOX) -> None:
        self._tortured = tortured
        self.acknowledged: set[str] = set()
        """The event ids that got their 2xx."""
        self.forged: set[str] = set()
        self.forged_accepted: set[str] = set()
        self.arriving: list[Hook] = []
        """Each is called, once, when the next callback goes on to a sidecar."""
        self.answered: list[Hook] = []
        """Each is called, once, when the next 2xx comes back."""
        self._port = port
        self._urls = [f"http://{HOST}:{sidecar}" for sidecar in sidecar_ports]
        self._random = random.Random(seed)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._forging: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to listen."""
        application = web.Application()
        application.router.add_post("/{path:.*}", self._post)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port, backlog=1_024).start()
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True))

    async def close(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        event_id = self._tortured.event_id(request.headers, body)
        wanted = self._tortured.callback_headers
        headers = {name: value for name, value in request.headers.items() if name.lower().startswith(wanted)}
        urls = self._random.sample(self._urls, 1)
        if self._random.random() < DOUBLED_SHARE:
            urls = [*urls, self._random.choice(self._urls)]
        _call(self.arriving)
        statuses = await asyncio.gather(*(self._pass_on(url + request.path, body, headers) for url in urls))
        if any(200 <= status < 300 for status in statuses):
            self.acknowledged.add(event_id)
            _call(self.answered)
        if self._random.random() < FORGED_SHARE:
            self._forge(urls[0] + request.path, body, headers, event_id)
        return web.Response(status=min(statuses))

    async def _pass_on(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        if self._session is None:
            return 503
        try:
            async with self._session.post(url, data=body, headers=headers) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 503

    def _forge(self, url: str, body: bytes, headers: dict[str, str], event_id: str) -> None:
        """The same event under another id: its signature is of another body."""
        own = f"{event_id[:-4]}f0f0"
        forged = body.replace(event_id.encode(), own.encode())

        async def send() -> None:
            self.forged.add(own)
            told = {self._tortured.event_header: own} if self._tortured.event_header else {}
            if 200 <= await self._pass_on(url, forged, {**headers, **told}) < 300:
                self.forged_accepted.add(own)

        task = asyncio.create_task(send())
        self._forging.add(task)
        task.add_done_callback(self._forging.discard)


def _call(hooks: list[Hook]) -> None:
    waiting = hooks[:]
    hooks.clear()
    for hook in waiting:
        hook()
