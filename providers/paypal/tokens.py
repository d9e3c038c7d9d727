"""Access tokens by client credentials (OAuth 2.0): asked for once, shared, kept until shortly before their end.

However many calls need one at a time, one request asks for it. A token that PayPal has refused is given back and
replaced, once for all who held it.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass

from providers.fields import Fields, UnreadableAnswer
from providers.http import HttpWire, Lost, NeverSent, Received
from providers.refusals import Refusal, retry_after_s
from providers.secret import Secret
from providers.strict_json import StrictJsonError, parse_object

TOKEN_PATH = "/v1/oauth2/token"  # noqa: S105  a path, not a credential
MARGIN_S = 60.0
"""A token is replaced so long before it ends: what is sent with it must arrive in time."""

LIFE_S_MAX = 24 * 3600.0
TOKEN_CHARACTERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and when it is to be replaced, by the clock of `Tokens`. Its repr shows neither."""

    value: Secret
    fresh_until_s: float


@dataclass(frozen=True, slots=True)
class NoToken:
    """There is none: `refusal` where PayPal said why it gives none, else the exchange failed."""

    failure: str
    refusal: Refusal | None = None
    retry_after_s: float | None = None
    late: bool = False


class Tokens:
    """The tokens of one client. `now` is monotonic, in seconds; `timeout_s` bounds one request for a token."""

    def __init__(
        self, wire: HttpWire, client_id: str, secret: Secret, *, now: Callable[[], float] | None, timeout_s: float
    ) -> None:
        self._wire = wire
        self._client_id = client_id
        self._secret = secret
        self._now = now
        self._timeout_s = timeout_s
        self._token: Token | None = None
        self._asking: asyncio.Task[Token | NoToken] | None = None

    async def get(self, *, timeout_s: float) -> Token | NoToken:
        """A token that is good for a while, within `timeout_s`."""
        if self._token is not None and self._clock() < self._token.fresh_until_s:
            return self._token
        if timeout_s <= 0:
            return NoToken("no time left for a token")
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="paypal token")
        try:
            # Shielded: one caller that goes away must not take the token from the others.
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._asking)
        except TimeoutError:
            return NoToken("no token in time")

    def refused(self, token: Token) -> None:
        """Forget a token that PayPal did not take; a newer one stays."""
        if self._token is token:
            self._token = None

    async def close(self) -> None:
        """Give up a request that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _clock(self) -> float:
        return (self._now or asyncio.get_running_loop().time)()

    async def _ask(self) -> Token | NoToken:
        basic = base64.b64encode(f"{self._client_id}:{self._secret.reveal()}".encode()).decode()
        began_s = self._clock()
        exchange = await self._wire.write(
            "POST",
            TOKEN_PATH,
            headers={"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"},
            body=b"grant_type=client_credentials",
            send_before=began_s + self._timeout_s,
            timeout_s=self._timeout_s,
        )
        match exchange:
            case NeverSent(failure=failure) | Lost(failure=failure):
                return NoToken(f"token: {failure}")
            case Received():
                read = _read(exchange, began_s)
                if isinstance(read, Token):
                    self._token = read
                return read


def _read(received: Received, began_s: float) -> Token | NoToken:
    match received.status:
        case 200:
            try:
                answer = Fields(parse_object(received.body), "token")
                value, life_s = answer.raw.get("access_token"), float(answer.whole("expires_in"))
            except (StrictJsonError, UnreadableAnswer) as error:
                return NoToken(f"token: {error}")
            if not isinstance(value, str) or not 0 < len(value) <= TOKEN_CHARACTERS_MAX or not value.isascii():
                return NoToken("token: not a token")
            life_s = min(life_s, LIFE_S_MAX)
            return Token(Secret(value), began_s + max(life_s - MARGIN_S, life_s / 2))
        case 400 | 401:
            return NoToken(f"token: {received.status}", Refusal.CREDENTIALS)
        case 403:
            return NoToken("token: 403", Refusal.PERMISSION)
        case 429:
            return NoToken("token: 429", Refusal.RATE_LIMITED, retry_after_s(received.headers.get("retry-after")))
        case status:
            return NoToken(f"token: {status}")
