"""Access tokens by client credentials: opaque, each good for a while, and forgotten by a restart."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections import OrderedDict
from collections.abc import Callable

from simulators.paypal.settings import Merchant


class Tokens:
    """The tokens of one merchant's client. `issued` counts those that were given out."""

    def __init__(self, merchant: Merchant, seconds: int, tokens_max: int, clock: Callable[[], float]) -> None:
        self._merchant, self.seconds, self._tokens_max, self._clock = merchant, seconds, tokens_max, clock
        self._until: OrderedDict[str, float] = OrderedDict()
        self.issued = 0

    def issue(self, authorization: str) -> str | None:
        """A token for good Basic credentials, else None."""
        scheme, _, told = authorization.partition(" ")
        try:
            client_id, _, secret = base64.b64decode(told, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        if scheme.lower() != "basic" or (client_id, secret) != (self._merchant.client_id, self._merchant.client_secret):
            return None
        token = f"A21-{secrets.token_urlsafe(24)}"
        self._until[token] = self._clock() + self.seconds
        self.issued += 1
        while len(self._until) > self._tokens_max:
            self._until.popitem(last=False)
        return token

    def good(self, authorization: str) -> bool:
        """Whether this is a Bearer token that is still good."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self._until.get(token.strip(), 0.0) > self._clock()

    def revoke_all(self) -> int:
        """Let every token end now; how many did."""
        ended = len(self._until)
        self._until.clear()
        return ended
