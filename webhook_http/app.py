"""The sidecar as an ASGI application: callbacks, and the three answers that operators ask for."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable

import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from structlog.typing import FilteringBoundLogger

from webhook_http.delivery import GatewayLink
from webhook_http.endpoint import CallbackEndpoint
from webhook_http.metrics import SidecarMetrics
from webhook_http.settings import SidecarSettings
from webhook_http.verification import Verification


def build_app(
    settings: SidecarSettings,
    *,
    metrics: SidecarMetrics | None = None,
    log: FilteringBoundLogger | None = None,
    now_s: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The application; its lifespan opens and closes the channel to the gateway, in the server's event loop.

    `now_s` (unix seconds) is what signatures are judged by. Raises ValueError for a provider without a verifier.
    """
    metrics = metrics or SidecarMetrics()
    verification = Verification(settings.accounts, now_s=now_s, seconds_max=settings.limits.verify_s_max)
    endpoint = CallbackEndpoint(
        verification,
        settings.limits,
        metrics,
        log or structlog.get_logger("webhook_http"),
        now_s=now_s,
        monotonic=monotonic,
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.link = GatewayLink(settings, monotonic=monotonic)
        try:
            yield
        finally:
            await app.state.link.close()
            await verification.close()

    async def callback(request: Request) -> Response:
        return await endpoint.answer(request, request.app.state.link)

    async def healthz(request: Request) -> Response:
        """The process is up; that says nothing of the gateway."""
        return PlainTextResponse("ok")

    async def readyz(request: Request) -> Response:
        """Callbacks would be kept."""
        ready = await request.app.state.link.ready()
        return PlainTextResponse("ready" if ready else "the gateway is not serving", status_code=200 if ready else 503)

    async def exposition(request: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(
        routes=[
            Route("/webhooks/{provider}/{account_id}", callback, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", exposition, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
    # A provider does not follow a redirect with its POST: a path with a slash too many is not there.
    app.router.redirect_slashes = False
    return app
