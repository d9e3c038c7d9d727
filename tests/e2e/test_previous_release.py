"""The release before this one and this one, side by side on one PostgreSQL, as a rollout or a rollback leaves them.

The order of a rollout: the old one runs, `obol migrate` of the new one, the new one starts. The old gateway runs here
with its own code, out of git, in the same Python environment.
"""

import asyncio
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.demo.figures import read_effects
from gateway.demo.installation import Installation
from gateway.demo.process import Process
from gateway.verification import verify
from obol.client import BillingObservationClient, PaymentGatewayClient, repeat_until_answered
from obol.v1 import billing_observation_pb2 as observing
from obol.v1.money_pb2 import Money
from obol.v1.payment_gateway_pb2 import CreatePaymentRequest, GetPaymentRequest, ListPaymentsRequest
from obol.v1.payment_pb2 import PaymentState
from store import migrate
from tests import databases
from tests.e2e.test_kills import _post
from tests.processes import QUICK_RECOVERY, clients, eventually, show_logs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMED = ROOT / "deploy" / "previous-release"
NEW, OLD = 0, 1
KEYS = 12
LATER = ("payments", "commands", "operations", "observations", "callbacks", "movements")
"""Tables that get one more column while the old gateway is at work, as some later migration will do."""


def previous_commit() -> str:
    """The commit that stands for the release before this one."""
    return next(line for line in NAMED.read_text().splitlines() if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def old_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the release before, out of git."""
    commit = previous_commit()
    archived = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archived.returncode:
        pytest.skip(f"the history does not reach back to {commit}: {archived.stderr.decode().strip()}")
    directory = tmp_path_factory.mktemp("previous-release")
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as tree:
        tree.extractall(directory, filter="data")
    return directory


class SideBySide(Installation):
    """Two gateways, the second one with the old code."""

    def __init__(self, directory: Path, *, database_url: str, old_tree: Path) -> None:
        self._old_tree = old_tree
        super().__init__(directory, gateways=2, database_url=database_url, settings=QUICK_RECOVERY)

    def _process(self, name: str, *arguments: str, **environment: str) -> Process:
        if name == f"gateway-{OLD}":
            environment["PYTHONPATH"] = f"{self._old_tree}:{self._old_tree / 'proto'}"
            # A setting that the release before does not know stops it: it is given when all run the new one.
            self._settings.pop("OBOL_SECRETS__SEALING_KEYS", None)
        return super()._process(name, *arguments, **environment)


@contextmanager
def side_by_side(directory: Path, database_url: str, old_tree: Path) -> Iterator[SideBySide]:
    """Both, with nothing started; where the test fails, the ends of their logs are shown."""
    installed = SideBySide(directory, database_url=database_url, old_tree=old_tree)
    with installed:
        try:
            yield installed
        except BaseException:
            show_logs(installed)
            raise


def creation(key: str, payment_method: str = "card_ok") -> CreatePaymentRequest:
    """A payment of 49.90."""
    amount = Money(amount_minor=4_990, currency_code="EUR")
    return CreatePaymentRequest(
        idempotency_key=key, amount=amount, payment_method=payment_method, order_reference=f"order-{key}"
    )


def test_a_release_and_the_one_before_it_share_a_database(tmp_path: Path, old_tree: Path) -> None:
    """One effect for a key that both are asked with, what one leaves the other ends, either reads all observations."""
    url = databases.postgresql_url(migrated=False)
    asyncio.run(_migrate_as_before(url, old_tree))
    with side_by_side(tmp_path / "installed", url, old_tree) as installed:
        installed.write_config()
        installed.provider.start()
        installed.gateways[OLD].start()
        installed.wait_ready()
        assert _runs_from(installed.gateways[OLD]) == old_tree
        _migrate_under_load(installed, url)
        installed.gateways[NEW].start()
        installed.sidecar.start()
        installed.wait_ready()
        assert _runs_from(installed.gateways[NEW]) == ROOT
        _same_keys_through_both(installed)
        _observations_by_either(installed)
        _ends_what_the_other_left(installed, dies=OLD, ends=NEW)
        installed.gateways[OLD].start()
        installed.wait_ready()
        _ends_what_the_other_left(installed, dies=NEW, ends=OLD)
        with clients(installed, gateway=OLD) as (payments, _):
            expected = [effect.operation_id for effect in read_effects(installed.effect_log)]
            assert len(expected) == len(set(expected)) == len(_all_payments(payments))
        report = asyncio.run(verify(url, effect_log=installed.effect_log, healed=True))
        assert [f"{each.invariant} {each.row}: {each.message}" for each in report.violations] == []
        assert (report.unresolved, report.effects) == (0, len(expected))
    databases.drop(url)


async def _migrate_as_before(url: str, old_tree: Path) -> None:
    """To the schema of the release before, by its own migrations."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(old_tree / "store" / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


def _migrate_under_load(installed: SideBySide, url: str) -> None:
    """The new release's migrations, and then one column more for each busy table, while the old one takes payments."""
    with clients(installed, gateway=OLD) as (payments, _), ThreadPoolExecutor(4) as pool:
        # A claim that waits for a migration's lock past its send window was provably not sent: the caller repeats it.
        load = [
            pool.submit(repeat_until_answered, payments.create_payment, creation(f"before-{number}"))
            for number in range(40)
        ]
        asyncio.run(migrate.upgrade(url))
        for table in LATER:
            name = url.partition("@/")[2].partition("?")[0]
            databases.administer(f"SET lock_timeout = '3s'; ALTER TABLE {table} ADD COLUMN later text", name)
        load += [
            pool.submit(repeat_until_answered, payments.create_payment, creation(f"after-{number}"))
            for number in range(10)
        ]
        states = {call.result().payment.state for call in load}
    assert states == {PaymentState.PAYMENT_STATE_CAPTURED}
    assert asyncio.run(migrate.check(url)) is migrate.Schema.CURRENT


def _same_keys_through_both(installed: SideBySide) -> None:
    """Asked at once with one key, both give the same reply, byte for byte, and the provider charges once."""
    before = len(read_effects(installed.effect_log))
    with (
        clients(installed, gateway=NEW) as (new, _),
        clients(installed, gateway=OLD) as (old, _),
        ThreadPoolExecutor(8) as pool,
    ):
        calls = [
            [pool.submit(repeat_until_answered, client.create_payment, creation(f"both-{number}")) for client in order]
            for number, order in enumerate([(new, old), (old, new)] * (KEYS // 2))
        ]
        for pair in calls:
            one, other = (call.result().SerializeToString(deterministic=True) for call in pair)
            assert one == other
    assert len(read_effects(installed.effect_log)) == before + KEYS


def _observations_by_either(installed: SideBySide) -> None:
    """The same log from both, also going on from the other's cursor; a word told to one stands at the other."""
    with clients(installed, gateway=NEW) as (_, new), clients(installed, gateway=OLD) as (_, old):
        eventually(lambda: len(_log(new)) >= 50 + KEYS, "all observations are numbered", installed)
        seen = _log(new)
        assert seen == _log(old) == _log(new, old) == _log(old, new)
        chosen = [observation_id for observation_id, _ in seen[:5]]
        new.accept_observations(observing.AcceptObservationsRequest(consumer="ledger", observation_ids=chosen))
        old.accept_observations(observing.AcceptObservationsRequest(consumer="ledger", observation_ids=chosen))
        asked = observing.GetConsumerRequest(consumer="ledger")
        assert old.get_consumer(asked).consumer == new.get_consumer(asked).consumer


def _ends_what_the_other_left(installed: SideBySide, *, dies: int, ends: int) -> None:
    """Killed between the provider's charge and its answer, one gateway leaves a payment that the other one captures."""
    request = creation(f"left-by-{dies}")
    before = len(read_effects(installed.effect_log))
    _post(f"{installed.sandbox_url}/control/faults", {"next": [{"fault": "timeout_after", "match": "payments"}]})
    with ThreadPoolExecutor(1) as pool, clients(installed, gateway=dies) as (payments, _):
        call = pool.submit(payments.create_payment, request)
        eventually(lambda: len(read_effects(installed.effect_log)) > before, "the provider has charged", installed)
        installed.gateways[dies].kill()
        assert call.exception() is not None
    with clients(installed, gateway=ends) as (payments, _):
        payment = repeat_until_answered(payments.create_payment, request).payment
        asked = GetPaymentRequest(payment_id=payment.payment_id)
        eventually(
            lambda: payments.get_payment(asked).payment.state == PaymentState.PAYMENT_STATE_CAPTURED,
            "the payment is captured",
            installed,
        )
    assert len(read_effects(installed.effect_log)) == before + 1


def _log(*clients_in_turn: BillingObservationClient) -> Sequence[tuple[str, int]]:
    """Every observation, with its payment's version, page by page, each page from the next client in turn."""
    found: list[tuple[str, int]] = []
    cursor, turn = "", 0
    while True:
        request = observing.ListObservationsRequest(cursor=cursor, page_size=20)
        page = clients_in_turn[turn % len(clients_in_turn)].list_observations(request)
        found += [(each.observation_id, each.payment_version) for each in page.observations]
        if not page.observations:
            return found
        cursor, turn = page.next_cursor, turn + 1


def _all_payments(payments: PaymentGatewayClient) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        page = payments.list_payments(ListPaymentsRequest(page_size=100, page_token=token))
        found += [each.payment_id for each in page.payments]
        if not (token := page.next_page_token):
            return found


def _runs_from(process: Process) -> Path:
    """The tree whose code a gateway's environment gives it."""
    environment = dict(
        line.split("=", 1) for line in Path(f"/proc/{process.pid}/environ").read_text().split("\0") if "=" in line
    )
    asked = [sys.executable, "-P", "-c", "import gateway, obol.v1; print(gateway.__file__); print(obol.v1.__file__)"]
    said = subprocess.run(asked, env=environment, cwd="/", check=True, capture_output=True, text=True).stdout
    (tree,) = {Path(line).parents[depth] for line, depth in zip(said.split(), (1, 3), strict=True)}
    return tree
