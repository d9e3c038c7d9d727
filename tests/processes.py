"""Real processes for tests: a sandbox, gateways and a sidecar, which can be killed and started again.

    with running(tmp_path, gateways=2, database_url=postgresql_url()) as installed:
        with clients(installed) as (payments, observations):
            ...
            installed.gateways[0].kill()        # as a power failure would
            revive(installed, installed.gateways[0])

`installed` has the ports, directories and logs (gateway.demo.installation). Start and revive from the test's own
thread: the kernel ends a process with the thread that started it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gateway.demo.installation import Installation
from gateway.demo.process import Process, wait_until
from obol.client import BillingObservationClient, Caller, PaymentGatewayClient, channel

CALLER = Caller(tenant="acme", organization="acme-eu", actor="test")
SOON_S = 30.0

QUICK_RECOVERY = {
    "OBOL_ENGINE__SEND_WINDOW_S": "1",
    "OBOL_ENGINE__PROVIDER_TIMEOUT_S": "2",
    "OBOL_ENGINE__LEASE_S": "4",
    "OBOL_ENGINE__RECOVERY_POLL_S": "0.2",
}
"""Settings under which what a killed gateway left behind is taken up within seconds."""


@contextmanager
def running(
    directory: Path, *, gateways: int = 1, database_url: str = "", settings: Mapping[str, str] | None = None
) -> Iterator[Installation]:
    """An installation that serves; where the test fails, the ends of its logs are shown.

    `database_url` is a migrated database's, "" for SQLite in `directory`. SQLite has one gateway.
    """
    installed = Installation(directory, gateways=gateways, database_url=database_url, settings=settings)
    with installed:
        try:
            installed.start()
            yield installed
        except BaseException:
            show_logs(installed)
            raise


@contextmanager
def clients(
    installed: Installation, *, gateway: int | None = None
) -> Iterator[tuple[PaymentGatewayClient, BillingObservationClient]]:
    """Billing's clients, over one channel to all gateways, or to the one with this number."""
    with channel(installed.target if gateway is None else installed.gateway_target(gateway)) as connected:
        yield PaymentGatewayClient(connected, CALLER), BillingObservationClient(connected, CALLER)


def revive(installed: Installation, process: Process) -> None:
    """Start a process again that was killed or stopped, at its old address, and wait until it serves."""
    process.start()
    installed.wait_ready()


def eventually(condition: Callable[[], object], what: str, installed: Installation) -> None:
    """Wait until `condition()` holds, as long as every process lives. Raises TookTooLong, ProcessDied."""
    wait_until(lambda: bool(condition()), what, within_s=SOON_S, meanwhile=installed.check)


def show_logs(installed: Installation) -> None:
    """To standard error, where pytest shows it beside the failure."""
    for process in installed.processes:
        sys.stderr.write("\n".join(["", f"--- {process.log}", *process.tail(), ""]))
