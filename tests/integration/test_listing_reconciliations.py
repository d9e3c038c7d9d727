"""Which reconciliations there were and what each found: over gRPC on both databases, and as an operator types it."""

import asyncio
import csv
import io
import json
import time
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from gateway.app.settings import ReconciliationSettings
from gateway.cli import app
from obol.v1 import operations_pb2 as ops
from tests.databases import sqlite_url
from tests.integration.house import House, eventually, open_house, refused
from tests.integration.operators import Operator

QUICK_RECONCILIATION = ReconciliationSettings(poll_s=0.05, pause_s=0.0)
DONE, FAILED = ops.RECONCILIATION_STATE_DONE, ops.RECONCILIATION_STATE_FAILED


async def reconciled(ann: Operator, key: str, **asked: Any) -> Any:
    """A reconciliation of the last and the next hour, once it is over."""
    request = ops.RunReconciliationRequest(idempotency_key=key, account_id="acct_main", **asked)
    request.window_start_time.seconds, request.window_end_time.seconds = (
        int(time.time()) - 3_600,
        int(time.time()) + 3_600,
    )
    fields = {field.name: value for field, value in request.ListFields()}
    job = (await ann.call("RunReconciliation", **fields)).reconciliation
    read = await eventually(
        lambda: ann.call("GetReconciliation", reconciliation_id=job.reconciliation_id),
        lambda response: response.reconciliation.state in (DONE, FAILED),
    )
    return read.reconciliation


async def broken(house: House) -> str:
    """A payment of which the provider's books tell another amount: a break that nothing mends."""
    payment = await house.create()
    reference = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{reference}/falsify", {"captured": 900})
    return str(payment.payment_id)


async def test_reconciliations_are_listed_newest_first_by_what_is_asked(database_url: str, tmp_path: Path) -> None:
    """All, by account, state, time and what they left; in pages that meet, whose tokens are one filter's alone."""
    async with open_house(database_url, tmp_path, reconciliation=QUICK_RECONCILIATION) as house:
        ann, bob = Operator(house, "ann"), Operator(house, "bob")
        clean = await reconciled(ann, "clean")
        await broken(house)
        dry, left = await reconciled(bob, "dry", dry_run=True), await reconciled(ann, "left")

        async def listed(**asked: Any) -> list[Any]:
            response = await ann.call("ListReconciliations", **asked)
            assert response.next_page_token == ""
            return [each.reconciliation_id for each in response.reconciliations]

        every = [left.reconciliation_id, dry.reconciliation_id, clean.reconciliation_id]
        assert await listed() == every
        assert await listed(account_id="acct_main", states=[DONE]) == every
        assert await listed(account_id="acct_none") == []
        assert await listed(states=[FAILED, ops.RECONCILIATION_STATE_QUEUED]) == []
        assert await listed(with_breaks_left=True) == every[:2]
        assert await listed(create_time_from=dry.create_time) == every[:2]
        assert await listed(create_time_before=dry.create_time) == every[2:]
        assert await listed(create_time_from=dry.create_time, create_time_before=left.create_time) == every[1:2]

        page = await ann.call("ListReconciliations", page_size=2)
        rest = await ann.call("ListReconciliations", page_size=2, page_token=page.next_page_token)
        assert [each.reconciliation_id for each in [*page.reconciliations, *rest.reconciliations]] == every
        assert rest.next_page_token == ""
        assert page.reconciliations[0] == left, "a list shows what a look at the one shows"
        assert [(each.actor, each.dry_run) for each in page.reconciliations] == [("ann", False), ("bob", True)]
        other = ann.call("ListReconciliations", with_breaks_left=True, page_token=page.next_page_token)
        assert (await refused(other)).reason == "PAGE_TOKEN_INVALID"
        assert (await refused(ann.call("ListReconciliations", states=[99]))).fields == ("states",)
        assert (await refused(ann.call("ListReconciliations", page_size=201))).fields == ("page_size",)


async def test_the_command_lists_them_and_shows_one_with_its_breaks(tmp_path: Path) -> None:
    """A table and JSON of all, and of one by its id the breaks as table, CSV and JSON; nonsense ends with 2."""
    async with open_house(sqlite_url(tmp_path), tmp_path, reconciliation=QUICK_RECONCILIATION) as house:
        ann = Operator(house, "ann")
        clean = await reconciled(ann, "clean")
        payment_id = await broken(house)
        left = await reconciled(ann, "left")

        async def obol(*arguments: str) -> tuple[int, str]:
            given = ["reconciliations", *arguments, "--gateway", house.target, "--actor", "ann"]
            run = await asyncio.to_thread(CliRunner().invoke, app, given)
            # The gateway of this process logs into the same output.
            return run.exit_code, "\n".join(each for each in run.output.splitlines() if not each.startswith("[info"))

        code, told = await obol()
        assert (code, clean.reconciliation_id in told, left.reconciliation_id in told) == (0, True, True)
        code, told = await obol("--breaks-left", "--state", "done", "--account", "acct_main", "--json")
        document = json.loads(told)
        assert (code, document["more"]) == (0, False)
        assert [each["reconciliation_id"] for each in document["reconciliations"]] == [left.reconciliation_id]
        code, told = await obol("--since", "2100-01-01")
        assert (code, told) == (0, "no reconciliations")

        code, told = await obol(left.reconciliation_id)
        assert (code, f"reconciliation {left.reconciliation_id} of acct_main" in told) == (0, True)
        assert "breaks 1, of which 0 were mended" in told
        assert payment_id in told
        code, told = await obol(left.reconciliation_id, "--csv")
        (found,) = csv.DictReader(io.StringIO(told))
        assert (code, found["type"], found["mended"], found["payment_id"]) == (0, "AMOUNT", "no", payment_id)
        code, told = await obol(left.reconciliation_id, "--json")
        assert json.loads(told)["breaks"][0]["type"] == "BREAK_TYPE_AMOUNT"

        for wrong in (("--csv",), (left.reconciliation_id, "--breaks-left"), ("--state", "over")):
            assert (await obol(*wrong))[0] == 2, wrong
        code, told = await obol("rec_none")
        assert (code, "RECONCILIATION_NOT_FOUND" in told) == (1, True)
