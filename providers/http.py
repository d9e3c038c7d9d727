"""The wire that adapters share: one HTTPS session for each account, every bound named, every failure a value.

Redirects are not followed, cookies not kept, the environment's proxies not used, answers not decompressed. A write is
sent once and never after its last moment (`providers.sent`).
"""

import asyncio
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import aiohttp
from yarl import URL

from gateway.domain.errors import Sent
from providers.sent import SendGuard, SendTooLate, guarding, was_sent

CHUNK_BYTES = 16 * 1024
PATH_CHARACTERS_MAX = 2048
_PATH = re.compile(r"/[!-~]*\Z")
_HEADER_VALUE = re.compile(r"[ -~]*\Z")


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Bounds of one account's wire: times in seconds, sizes in bytes.

    `connect_s` covers the wait for a connection of the pool, names, TCP and TLS. `keepalive_s` stays below what the
    provider keeps, so that a connection is rarely dead when it is used again.
    """

    connect_s: float = 5.0
    connections_max: int = 64
    keepalive_s: float = 15.0
    body_bytes_max: int = 1024 * 1024
    dns_cache_s: int = 10


@dataclass(frozen=True, slots=True)
class Received:
    """An answer that came in whole. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NeverSent:
    """Provably nothing of the request went out. `late`: because its last moment had passed, nobody else's fault."""

    failure: str
    late: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The request may have arrived; what came back is no answer."""

    failure: str


Exchange = Received | NeverSent | Lost


class AnswerRefused(Exception):
    """The answer breaks a bound of ours; the message says which."""


class HttpWire:
    """Talks to one base URL. Open it inside a running loop by using it; `close` gives the connections back.

    `now` is the clock of `send_before`, by default the running loop's.
    """

    def __init__(self, base_url: str, limits: WireLimits, *, now: Callable[[], float] | None = None) -> None:
        self._base_url = checked_base_url(base_url)
        self._limits = limits
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def write(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes, send_before: float, timeout_s: float
    ) -> Exchange:
        """Send once, not after `send_before`. `timeout_s` is for everything, from the pool to the last byte."""
        now = self._now or asyncio.get_running_loop().time
        guard = SendGuard(send_before=send_before, now=now, has_body=bool(body))
        left_s = send_before - now()
        if left_s <= 0:
            return NeverSent("send_before has passed", late=True)
        return await self._exchange(method, path, headers, body, guard, timeout_s, min(left_s, self._limits.connect_s))

    async def read(self, path: str, *, headers: Mapping[str, str], timeout_s: float) -> Exchange:
        """GET. Reading changes nothing, so there is no last moment; aiohttp may repeat it on a stale connection."""
        return await self._exchange("GET", path, headers, b"", None, timeout_s, self._limits.connect_s)

    async def close(self) -> None:
        """Close every connection; what is under way ends as Lost. Idempotent."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _exchange(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        guard: SendGuard | None,
        timeout_s: float,
        connect_s: float,
    ) -> Exchange:
        malformed = _malformed(path, headers)
        if malformed or self._closed or timeout_s <= 0:
            return NeverSent(malformed or ("closed" if self._closed else "no time left"))
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._opened().request(
                    method,
                    URL(self._base_url + path, encoded=True),
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                    timeout=_timeout(connect_s),
                    # Without a guard aiohttp may repeat the request, which only a read can bear.
                    trace_request_ctx=guard,
                )
                return await self._received(response)
        except Exception as error:  # noqa: BLE001  every failure of the wire is a value; the table says which
            return failed(error, guard)

    async def _received(self, response: aiohttp.ClientResponse) -> Received:
        try:
            body = await bounded_body(response, self._limits.body_bytes_max)
        except BaseException:
            # Not `release`: the rest of the answer must not be taken for the next one's.
            response.close()
            raise
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Received(response.status, MappingProxyType(headers), body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = opened_session(self._limits)
        return self._session


def opened_session(limits: WireLimits) -> aiohttp.ClientSession:
    """A session with the house's bounds and the send guard's hooks; TLS is verified with the system's roots."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=limits.connections_max,
            keepalive_timeout=limits.keepalive_s,
            ttl_dns_cache=limits.dns_cache_s,
            ssl=True,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        # A compressed answer can be a bomb; we ask for none and read none.
        auto_decompress=False,
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "obol"},
        trace_configs=[guarding()],
    )


async def bounded_body(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The whole body. Raises AnswerRefused where it is larger than `bytes_max`, or encoded."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise AnswerRefused("encoded answer")
    if (response.content_length or 0) > bytes_max:
        raise AnswerRefused("oversized answer")
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > bytes_max:
            raise AnswerRefused("oversized answer")
    return bytes(body)


def failed(error: Exception, guard: SendGuard | None) -> NeverSent | Lost:
    """What an error of the transport means; for a read (no guard) it is Lost, and nothing hangs on it.

    The text names kinds only, because an error's own message may quote what was sent.
    """
    told = described(error)
    if guard is not None and was_sent(error, guard) is Sent.NO:
        return NeverSent(told, late=isinstance(error, SendTooLate) or isinstance(error.__cause__, SendTooLate))
    return Lost(told)


def described(error: BaseException) -> str:
    """The kinds of an error and of its cause, with the number of an OS error."""
    if isinstance(error, AnswerRefused):
        return str(error)
    kinds = [type(error).__name__]
    cause = error.__cause__
    if cause is not None and type(cause) is not type(error):
        kinds.append(type(cause).__name__)
    number = error.errno if isinstance(error, OSError) else None
    return ": ".join(kinds) + (f" (errno {number})" if number else "")


def checked_base_url(base_url: str) -> str:
    """`base_url` without a slash at its end. Raises ValueError unless it is https, or http to this very machine."""
    url = URL(base_url)
    if not url.host or url.user or url.password or url.query_string or url.fragment:
        raise ValueError("base_url must be scheme, host, port and path alone")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.host)):
        raise ValueError("base_url must be https; http is for a loopback address")
    return base_url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost`, or a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _timeout(connect_s: float) -> aiohttp.ClientTimeout:
    # The total is asyncio.timeout's. aiohttp rounds what is over its threshold up to whole seconds: never here.
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s, ceil_threshold=float("inf"))


def _malformed(path: str, headers: Mapping[str, str]) -> str:
    if len(path) > PATH_CHARACTERS_MAX or not _PATH.match(path):
        return "malformed path"
    return "" if all(_HEADER_VALUE.match(value) for value in headers.values()) else "malformed header"
