"""A short run of torture over each store, as it is run from the command line; `make torture` runs the long ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.exchanges import Exchanges

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RUNS = (("sqlite", "sandbox", 6), ("postgresql", "sandbox", 6), ("sqlite", "paypal", 3), ("postgresql", "stripe", 4))
"""Store, provider and kills: each store before the sandbox, and once before each of the other imitations."""
SEED = 7


@pytest.mark.parametrize(("store", "provider", "kills"), RUNS)
def test_nothing_is_lost_or_done_twice_while_processes_are_killed(
    store: str, provider: str, kills: int, exchanges: Exchanges
) -> None:
    """Kills in the middle of things, faults, lost connections: every promise holds, and every request its document."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.torture", str(kills), store, str(SEED), provider],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    last = run.stdout.rstrip().rpartition("\n")[2]
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr[-4000:]}"
    assert last.startswith(f"torture: store={store} kills=")
    assert last.endswith(" unresolved=0 violations=0")
    # What they said meanwhile is validated as well.
    # The sandbox is our own: nobody else has a document of it.
    assert provider == "sandbox" or exchanges.count(provider) > 0
