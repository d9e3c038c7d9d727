"""The server: `serve` until a signal, or `running` inside a test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

from starlette.applications import Starlette

from simulators import hearing
from simulators.paypal.api import Api
from simulators.paypal.control import Control
from simulators.paypal.customer import CustomerPage
from simulators.paypal.imitation import Imitation
from simulators.paypal.settings import PayPalSettings
from simulators.serving import listening, serving, until_signalled


def serve(settings: PayPalSettings, ready: Callable[[str], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. `ready` gets the base URL; without it the URL is printed.

    Raises DirectoryBusy when another process has the data directory, OSError when the port is taken.
    """
    until_signalled(partial(running, settings), ready or _print_ready)


@contextlib.asynccontextmanager
async def running(settings: PayPalSettings) -> AsyncIterator[str]:
    """An imitation in this process and loop for as long as the block lasts. Yields its base URL, without a last slash.

    Raises DirectoryBusy, OSError as `serve` does.
    """
    settings = replace(settings, observed=settings.observed or hearing.as_told("paypal"))
    with listening(settings.host, settings.port) as (listener, url):
        imitation = Imitation(settings)
        imitation.open(url)
        bounds, heal = settings.bounds, imitation.faults.heal
        try:
            async with serving(application(imitation), listener, bounds.connections_max, heal):
                yield url
        finally:
            await imitation.close()


def application(imitation: Imitation) -> Starlette:
    """The routes."""
    routes = [*Api(imitation).routes(), *CustomerPage(imitation).routes(), *Control(imitation).routes()]
    return Starlette(routes=routes)


def _print_ready(url: str) -> None:
    sys.stdout.write(f"paypal: listening on {url}\n")
    sys.stdout.flush()
