"""The README's operating commands, as the real `obol` against a real gateway, and one of them with grpcurl."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.installation import Installation
from gateway.demo.process import wait_until
from obol.client import Caller, OperationsClient, Operator, PaymentGatewayClient, channel
from obol.v1 import operations_pb2 as ops
from obol.v1.money_pb2 import Money
from obol.v1.payment_gateway_pb2 import CreatePaymentRequest, RefundPaymentRequest
from tests.processes import running

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
COMMAND_S_MAX = 60
# Recovery takes its one look before there is anything to see: what is unknown is left to the operators.
SETTINGS = {"OBOL_ENGINE__RECOVERY_POLL_S": "3600"}


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    """Sandbox, gateway and sidecar as processes."""
    with running(tmp_path, settings=SETTINGS) as installation:
        yield installation


def _control(installed: Installation, path: str, body: dict[str, Any]) -> Any:
    connection = HTTPConnection(installed.sandbox_url.removeprefix("http://"), timeout=10)
    connection.request("POST", path, json.dumps(body))
    answer = connection.getresponse()
    assert answer.status == 200
    return json.load(answer)


def _obol(installed: Installation, arguments: str, actor: str, *, code: int = 0) -> str:
    """What `obol` says to these arguments, configured as the gateway is."""
    done = subprocess.run(
        [str(TOOLS / "obol"), *shlex.split(arguments), "--actor", actor],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        cwd=installed.directory,
        env={
            "PATH": "/usr/bin:/bin",
            "OBOL_CONFIG": str(installed.directory / "obol.toml"),
            "OBOL_GRPC__PORT": installed.target.rpartition(":")[2],
        },
    )
    assert done.returncode == code, f"obol {arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def _readme() -> list[str]:
    """The arguments of each command that the README shows."""
    block = re.search(r"<!-- operating -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    return [line.removeprefix("obol ") for line in block.group(1).splitlines()]


def test_the_operating_commands_of_the_readme_work_as_shown(installed: Installation) -> None:
    """A lost refund is found, explained, proposed, not approved alone, approved by another, and audited."""
    with channel(installed.target) as connected:
        payments = PaymentGatewayClient(connected, Caller("acme", "shop", "billing"))
        created = CreatePaymentRequest(
            idempotency_key="c", amount=Money(amount_minor=1_000, currency_code="EUR"), payment_method="card_ok"
        )
        payment = payments.create_payment(created).payment
        operations = OperationsClient(connected, Operator("ann"))

        def callbacks() -> list[str]:
            return [each.callback_id for each in operations.list_callbacks(ops.ListCallbacksRequest()).callbacks]

        wait_until(lambda: bool(callbacks()), "a callback arrives", within_s=30)
        callback_id = callbacks()[0]
        again = ops.ReplayCallbackRequest(callback_id=callback_id)
        wait_until(
            lambda: operations.replay_callback(again).callback.state == ops.CALLBACK_STATE_APPLIED,
            "the callback is applied",
            within_s=30,
        )
        # Whatever is told of the payment from here on is not: what is lost stays unknown.
        _control(installed, "/control/faults", {"next": [{"fault": "lost_after", "match": "refunds"}]})
        refund = RefundPaymentRequest(
            idempotency_key="r", payment_id=payment.payment_id, amount=Money(amount_minor=400, currency_code="EUR")
        )
        _control(installed, "/control/webhooks", {"mode": "off"})
        command_id = payments.refund_payment(refund).payment.latest_command.command_id
    effects = [json.loads(line) for line in installed.effect_log.read_text().splitlines()]
    refund_id = next(each["id"] for each in effects if each["kind"] == "refund")

    unresolved, explain, propose, approve, quarantined, replay, audit, providers = _readme()
    ids = {"pay_...": payment.payment_id, "cmd_...": command_id, "re_...": refund_id, "cbk_...": callback_id}

    def fill(line: str) -> str:
        for shown, real in ids.items():
            line = line.replace(shown, real)
        return line

    assert command_id in _obol(installed, unresolved, "ann")
    (item,) = json.loads(_obol(installed, f"{unresolved} --json", "ann"))["items"]
    assert (item["operation"]["state"], item["tenant_id"]) == ("COMMAND_STATE_UNKNOWN", "acme")
    timeline = _obol(installed, fill(explain), "ann")
    assert "CALL" in timeline
    assert "REFUND of 400 EUR" in timeline
    proposed = _obol(installed, fill(propose), "ann")
    found = re.search(r"prp_[0-9a-f]{32}", proposed)
    assert found is not None
    ids["prp_..."] = found.group()
    assert "APPROVAL_NEEDS_ANOTHER" in _obol(installed, fill(approve), "ann", code=1)
    assert f"command {command_id} is SUCCEEDED" in _obol(installed, fill(approve), "bob")
    assert "no callbacks" in _obol(installed, quarantined, "ann")
    assert "counts once" in _obol(installed, fill(replay), "ann")
    acts = _obol(installed, audit, "ann")
    assert "RESOLVE_APPROVE" in acts
    assert "bob" in acts
    assert "acct_main" in _obol(installed, providers, "ann")
    assert "--state: NONSENSE" in _obol(installed, "unresolved --state NONSENSE", "ann", code=2)

    asked = ["grpcurl", "-plaintext", "-H", "obol-actor: ann", "-d", json.dumps({"operators_only": True})]
    done = subprocess.run(
        [str(TOOLS / asked[0]), *asked[1:], installed.target, "obol.v1.Operations/ListAuditRecords"],
        check=True,
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
    )
    assert [record["action"] for record in json.loads(done.stdout)["records"]] == [
        "OPERATOR.RESOLVE_APPROVE",
        "OPERATOR.RESOLVE_APPROVE",
        "OPERATOR.RESOLVE_PROPOSE",
    ]
    verified = subprocess.run(
        [str(TOOLS / "obol"), "verify", "--config", "obol.toml", "--effects", str(installed.effect_log)],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        cwd=installed.directory,
    )
    assert verified.returncode == 0, verified.stdout
