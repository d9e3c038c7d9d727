"""What a caller's own mypy sees of the installed distribution."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

PROTO = Path(__file__).resolve().parents[2] / "proto"

PROGRAM = '''
"""A billing service, as strictly typed as it gets."""

from obol.client import (
    Accept, Caller, CallRecord, Decision, FileCursorStore, GatewayError, ObservationConsumer, OutcomeUnknown,
    BillingObservationClient, PaymentGatewayClient, AioPaymentGatewayClient, aio_channel, aio_repeat_until_answered,
    channel, key_for, repeat_until_answered,
)
from obol.v1.money_pb2 import Money
from obol.v1.observation_pb2 import Observation
from obol.v1.payment_gateway_pb2 import CreatePaymentRequest, CreatePaymentResponse

CALLER = Caller(tenant="acme", organization="acme-eu", actor="billing")


def pay(target: str, invoice: str) -> str:
    record = CallRecord()
    with channel(target) as gateway:
        client = PaymentGatewayClient(gateway, CALLER)
        request = CreatePaymentRequest(
            idempotency_key=key_for("invoice", invoice, 1), amount=Money(amount_minor=500, currency_code="EUR")
        )
        try:
            reply: CreatePaymentResponse = repeat_until_answered(client.create_payment, request, record=record)
        except OutcomeUnknown as error:
            return error.sent.value
        except GatewayError as error:
            return error.reason
    return reply.payment.payment_id if not record.replayed else "again"


async def pay_soon(target: str) -> CreatePaymentResponse:
    async with aio_channel(target) as gateway:
        client = AioPaymentGatewayClient(gateway, CALLER)
        return await aio_repeat_until_answered(client.create_payment, CreatePaymentRequest(idempotency_key="k"))


def handle(observation: Observation) -> Decision:
    return Accept()


def follow(target: str) -> None:
    with channel(target) as gateway:
        client = BillingObservationClient(gateway, CALLER)
        ObservationConsumer(client, "ledger", handle, cursors=FileCursorStore("cursor")).run()
'''

MISTAKES = {
    "another command's request": (
        "repeat_until_answered(client.create_payment, request, ",
        "repeat_until_answered(client.refund_payment, request, ",
    ),
    "a handler without a decision": (
        "def handle(observation: Observation) -> Decision:\n    return Accept()",
        "def handle(observation: Observation) -> None:\n    return None",
    ),
    "a deadline in words": ("record=record)", 'record=record, timeout_s="soon")'),
}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel of the contract installed; other packages are borrowed from this one."""
    source, built, home = (tmp_path_factory.mktemp(name) for name in ("source", "built", "caller"))
    shutil.copytree(
        PROTO, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"), dirs_exist_ok=True
    )
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(built), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    (archive,) = built.glob("*.whl")
    zipfile.ZipFile(archive).extractall(site)
    # A path entry is no site directory: the editable install of the contract here is not followed from there.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def checked(caller: Path, directory: Path, program: str) -> "subprocess.CompletedProcess[str]":
    """mypy --strict over a caller's program."""
    (directory / "service.py").write_text(program)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        str(caller / "bin/python"),
        "service.py",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "MYPYPATH"}
    return subprocess.run(command, check=False, cwd=directory, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_callers_program_is_strictly_typed(caller: Path, tmp_path: Path) -> None:
    """mypy --strict accepts a right program against the installed wheel, from that wheel and from nowhere else."""
    checking = checked(caller, tmp_path, PROGRAM)
    assert checking.returncode == 0, checking.stdout
    shutil.move(next(caller.glob("lib/python*/site-packages/obol")), caller / "away")
    try:
        missing = checked(caller, tmp_path, PROGRAM)
        assert "obol" in missing.stdout
        assert missing.returncode == 1
    finally:
        (site,) = caller.glob("lib/python*/site-packages")
        shutil.move(caller / "away", site / "obol")


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_callers_mistake_is_found_before_it_runs(caller: Path, tmp_path: Path, mistake: str) -> None:
    """The types are real: what would fail at run time fails in mypy."""
    right, wrong = MISTAKES[mistake]
    assert right in PROGRAM
    checking = checked(caller, tmp_path, PROGRAM.replace(right, wrong))
    assert checking.returncode == 1, checking.stdout


@pytest.mark.slow
def test_the_kit_runs_where_no_server_code_is(caller: Path) -> None:
    """The client kit imports in an environment without gateway, providers and store, and loads none of a server's."""
    code = (
        "import sys, obol.client; "
        "loaded = {name.split('.')[0] for name in sys.modules}; "
        "assert not loaded & {'gateway', 'providers', 'store', 'sqlalchemy', 'starlette', 'stripe'}, loaded; "
        "assert obol.client.__file__.startswith(sys.prefix), obol.client.__file__"
    )
    subprocess.run([caller / "bin/python", "-c", code], cwd=caller, check=True)
