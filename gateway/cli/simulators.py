"""`obol simulator NAME`: serves an imitation that takes no money and keeps books, and loads it only when called."""

from collections.abc import Callable, Mapping
from pathlib import Path

Serve = Callable[[Path, int, int, str], None]
"""Serves until a signal: the directory for its books, the port (0 for a free one), the seed, where webhooks go."""


def stripe(directory: Path, port: int, seed: int, webhook_url: str) -> None:
    """Stripe's imitation."""
    from simulators.stripe.server import serve
    from simulators.stripe.settings import StripeSettings

    serve(StripeSettings(data_dir=directory, port=port, seed=seed, webhook_url=webhook_url))


def paypal(directory: Path, port: int, seed: int, webhook_url: str) -> None:
    """PayPal's imitation."""
    from simulators.paypal.server import serve
    from simulators.paypal.settings import PayPalSettings

    serve(PayPalSettings(data_dir=directory, port=port, seed=seed, webhook_url=webhook_url))


SIMULATORS: Mapping[str, Serve] = {"paypal": paypal, "stripe": stripe}
"""By name; the sandbox, which is a provider of our own, has a command of its own."""
