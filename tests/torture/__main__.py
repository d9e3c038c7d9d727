"""`python -m tests.torture KILLS STORE SEED [GATEWAYS] [PROVIDER]`: exit code 1 where anything broke."""

import asyncio
import logging
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.run import Plan, torture
from tests.torture.tortured import TORTURED

STORES = {"sqlite": 1, "postgresql": 3}
"""Each store, and how many gateways it gets."""
ALSO_CALLED = {"postgres": "postgresql"}
VIOLATIONS_SHOWN_MAX = 200


def main(arguments: list[str]) -> int:
    """Run, and tell."""
    provider = arguments.pop() if arguments and arguments[-1] in TORTURED else "sandbox"
    store = ALSO_CALLED.get(arguments[1], arguments[1]) if len(arguments) in (3, 4) else ""
    if store not in STORES:
        named = f"[{'|'.join(TORTURED)}]"
        print(f"usage: python -m tests.torture KILLS {'|'.join(STORES)} SEED [GATEWAYS] {named}", file=sys.stderr)
        return 2
    gateways = int(arguments[3]) if len(arguments) == 4 else STORES[store]
    plan = Plan(kills=int(arguments[0]), store=store, seed=int(arguments[2]), gateways=gateways, provider=provider)
    directory = Path(tempfile.mkdtemp(prefix=f"obol-torture-{store}-"))
    print(f"torture: seed={plan.seed} commit={_commit()} directory={directory}", flush=True)
    # What the client kit has to say of every disconnect goes beside the other logs.
    logging.basicConfig(filename=directory / "billing.log", level=logging.INFO)
    began = time.monotonic()
    outcome = asyncio.run(torture(plan, directory))
    for note in outcome.notes:
        print(f"  {note}")
    for violation in outcome.violations[:VIOLATIONS_SHOWN_MAX]:
        print(f"VIOLATION (seed {plan.seed}) {violation}")
    # Of this process and of all that it started and has seen the end of; a PostgreSQL lives on.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor_s = sum(each.ru_utime + each.ru_stime for each in used)
    print(f"  {time.monotonic() - began:.0f} s in all, {processor_s:.0f} s of processor time")
    if outcome.clean:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"kept: {directory} (data, logs); seed {plan.seed}")
    print(outcome.line, flush=True)
    return 0 if outcome.clean else 1


def _commit() -> str:
    """The commit, with + where the tree differs from it."""
    try:
        here = Path(__file__).parent
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
