"""`python -m simulators.paypal --data-dir DIR --webhook-url URL`: the imitation in a process of its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from simulators.paypal.server import serve
from simulators.paypal.settings import PayPalSettings, Terms


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and serve until a signal."""
    parser = argparse.ArgumentParser(prog="simulators.paypal", description="An imitation of PayPal.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12_112, help="0 takes a free one")
    parser.add_argument("--data-dir", type=Path, required=True, help="journal, effect log and certificates")
    parser.add_argument("--webhook-url", help="where events are delivered to; may hold {account}")
    parser.add_argument("--public-url", help="where a payer's browser finds the imitation")
    parser.add_argument("--hang-seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trusting", action="store_true", help="compare no refund with what is left")
    parser.add_argument("--reporting-seconds", type=float, default=0.0, help="how late the search shows a transaction")
    told = vars(parser.parse_args(arguments))
    terms = Terms(trusting=told.pop("trusting"), reporting_seconds=told.pop("reporting_seconds"))
    serve(PayPalSettings(**told, terms=terms))


if __name__ == "__main__":
    main()
