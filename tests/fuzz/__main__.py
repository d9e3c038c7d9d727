"""`python -m tests.fuzz REQUESTS [SEED]`: exit code 1 where something was taken unsigned, or broke."""

import sys
import time

import uvloop

from tests.fuzz.run import Fuzzed, fuzz

LEG = 50_000
"""Requests of one sidecar's life; then another begins, so that what is kept stays small."""


def main(arguments: list[str]) -> int:
    """Run, and tell."""
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m tests.fuzz REQUESTS [SEED]", file=sys.stderr)
        return 2
    count, seed = int(arguments[0]), int(arguments[1]) if len(arguments) == 2 else 1
    total, began = Fuzzed(seed), time.monotonic()
    for first in range(0, count, LEG):
        leg = uvloop.run(fuzz(seed, first, min(LEG, count - first)))
        total.requests += leg.requests
        total.accepted += leg.accepted
        total.forged_accepted += leg.forged_accepted
        total.uncaught += leg.uncaught
        total.by_kind += leg.by_kind
        total.findings += leg.findings
        for finding in leg.findings:
            print(f"FOUND {finding}", flush=True)
        seconds = time.monotonic() - began
        print(f"  {seconds:.0f} s: {total.requests} requests, taken: {dict(total.by_kind)}", flush=True)
    print(total.line, flush=True)
    return 0 if total.clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
