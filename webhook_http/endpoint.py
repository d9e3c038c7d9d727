"""One callback from head to answer: refuse early, read the raw bytes, verify, hand over, and only then say 200."""

import asyncio
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from structlog.typing import FilteringBoundLogger

from webhook_http.delivery import GatewayLink
from webhook_http.metrics import UNKNOWN, SidecarMetrics
from webhook_http.reading import check_head, read_body
from webhook_http.refusals import Refusal, Refused
from webhook_http.settings import SidecarLimits
from webhook_http.verification import Verification, flat, signing_headers

CLIENT_GONE_STATUS = 499
"""In logs and metrics alone: there is nobody left to answer."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is answered, and what is noted about it."""

    status: int
    outcome: str
    words: str = ""
    why: str = ""
    event_id: str = ""
    correlation_id: str = ""


class CallbackEndpoint:
    """Answers POST /webhooks/{provider}/{account_id}. `now_s` in unix seconds, `monotonic` in seconds."""

    def __init__(
        self,
        verification: Verification,
        limits: SidecarLimits,
        metrics: SidecarMetrics,
        log: FilteringBoundLogger,
        *,
        now_s: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verification = verification
        self._limits = limits
        self._metrics = metrics
        self._log = log
        self._now_s = now_s
        self._monotonic = monotonic
        self._under_way = 0

    async def answer(self, request: Request, link: GatewayLink) -> Response:
        """The answer to one request; whatever happens there is one, and it is counted and logged."""
        began = self._monotonic()
        provider, account_id = request.path_params["provider"], request.path_params["account_id"]
        outcome = await self._admitted(request, link, provider, account_id)
        if not self._verification.knows(provider, account_id):
            # What a stranger makes up becomes neither a label nor a log line.
            provider, account_id = UNKNOWN, UNKNOWN
        seconds = self._monotonic() - began
        self._metrics.answered(provider, account_id, outcome.status, outcome.outcome, seconds)
        self._log.info(
            "callback",
            provider=provider,
            account_id=account_id,
            status=outcome.status,
            outcome=outcome.outcome,
            why=outcome.why,
            event_id=outcome.event_id,
            correlation_id=outcome.correlation_id,
            ms=round(seconds * 1_000, 2),
        )
        return self._response(outcome)

    async def _admitted(self, request: Request, link: GatewayLink, provider: str, account_id: str) -> _Outcome:
        if self._under_way >= self._limits.callbacks_max:
            return _refused(Refused(Refusal.CROWDED))
        self._under_way += 1
        self._metrics.under_way.inc()
        try:
            return await self._kept(request, link, provider, account_id)
        except Refused as refused:
            return _refused(refused)
        except ClientDisconnect:
            return _Outcome(CLIENT_GONE_STATUS, "CLIENT_GONE")
        except asyncio.CancelledError:
            # uvicorn cancels at the end of `drain_s_max`, and nobody else does: the provider still gets a word.
            return _refused(Refused(Refusal.DRAINING))
        except Exception as error:  # noqa: BLE001  nothing was acknowledged: the provider sends it again
            # Without the exception's text, which may quote what came.
            return _refused(Refused(Refusal.DEFECT, f"{type(error).__name__} at {_place(error)}"))
        finally:
            self._under_way -= 1
            self._metrics.under_way.dec()

    async def _kept(self, request: Request, link: GatewayLink, provider: str, account_id: str) -> _Outcome:
        """The way of a callback that is kept. Raises Refused, ClientDisconnect."""
        limits, received_s = self._limits, self._now_s()
        check_head(request.headers, head_bytes_max=limits.head_bytes_max, body_bytes_max=limits.body_bytes_max)
        # Read also for an account that there is not: the answers must not differ.
        body = await read_body(request, bytes_max=limits.body_bytes_max, seconds_max=limits.body_s_max)
        headers = flat(request.headers)
        event = await self._verification.verify(provider, account_id, body, headers)
        correlation_id, duplicate = await link.deliver(
            provider, account_id, event, body, signing_headers(provider, headers), received_s
        )
        return _Outcome(
            200, "DUPLICATE" if duplicate else "KEPT", event_id=event.event_id, correlation_id=correlation_id
        )

    def _response(self, outcome: _Outcome) -> Response:
        if outcome.status == 200:
            return Response(status_code=200)
        response = PlainTextResponse(outcome.words, status_code=outcome.status)
        # What is left of the body is not waited for.
        response.headers["Connection"] = "close"
        if outcome.status == 503:
            response.headers["Retry-After"] = str(self._limits.retry_after_s)
        return response


def _place(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.name}:{last.lineno}"


def _refused(refused: Refused) -> _Outcome:
    refusal = refused.refusal
    return _Outcome(refusal.status, refusal.name, refusal.words, refused.why)
