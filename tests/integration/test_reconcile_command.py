"""`obol reconcile` and `obol restore`, as an operator types them, against a gateway that serves."""

import asyncio
import csv
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.app.settings import ReconciliationSettings
from gateway.cli import app
from gateway.cli.reconcile import Asked, Failed, Wish, as_json, left, reconcile, window
from tests.databases import sqlite_url
from tests.integration.house import House, open_house
from tests.store.looking import rows

QUICK_RECONCILIATION = ReconciliationSettings(poll_s=0.05, pause_s=0.0)


def config_of(database_url: str, folder: Path) -> str:
    """A settings file that names the database."""
    config = folder / "obol.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n')
    return str(config)


async def obol(house: House, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the real command; (exit code, stdout, stderr)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *arguments, "--config", config_of(house.database_url, folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_command_prints_the_breaks_and_says_by_its_exit_whether_any_is_left(tmp_path: Path) -> None:
    """A table for people, CSV and JSON for programs: 0 where all is well or was mended, 1 where a person must look."""
    async with open_house(sqlite_url(tmp_path), tmp_path, reconciliation=QUICK_RECONCILIATION) as house:
        payment = await house.create()
        reference = payment.provider_reference.provider_payment_id
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        asked = ("reconcile", "--target", house.target, "--from", today.date().isoformat(), "--actor", "op")
        await house.control(f"/control/payments/{reference}/refund", {"amount": 400})
        code, out, err = await obol(house, tmp_path, *asked)
        assert (code, err) == (0, "")
        assert "breaks 1, of which 1 were mended" in out
        assert "EUR: captured 1000 here, 1000 there; refunded 400 here, 400 there" in out
        await house.control(f"/control/payments/{reference}/falsify", {"captured": 900})
        code, out, _ = await obol(house, tmp_path, *asked, "--csv")
        (found,) = csv.DictReader(io.StringIO(out))
        assert (code, found["type"], found["mended"], found["payment_id"]) == (1, "AMOUNT", "no", payment.payment_id)

        wish = Wish("acct_main", today, today + timedelta(days=1), True, "the-same")
        job, breaks = await asyncio.to_thread(reconcile, house.target, house.metadata, wish, wait_s=20.0)
        document = json.loads(as_json(job, breaks))
        assert document["reconciliation"]["dry_run"] is True
        assert document["breaks"][0]["type"] == "BREAK_TYPE_AMOUNT"
        assert left(breaks) == 1
        nobody = Wish("acct_none", today, today + timedelta(days=1), True, "another")
        with pytest.raises(Failed, match="NOT_FOUND"):
            await asyncio.to_thread(reconcile, house.target, house.metadata, nobody, wait_s=20.0)


async def test_the_command_that_declares_a_restore_holds_the_accounts_and_shows_them(
    database_url: str, tmp_path: Path
) -> None:
    """Declared, shown as waiting, released on a person's word; each with who and why."""

    async def restore(*arguments: str) -> tuple[int, str]:
        given = ["restore", *arguments, "--actor", "op", "--config", config_of(database_url, tmp_path)]
        run = await asyncio.to_thread(CliRunner().invoke, app, given)
        return run.exit_code, run.output

    assert (await restore("--backup-time", "2026-01-01T00:00:00Z"))[0] == 2
    code, told = await restore("--backup-time", "2026-01-01", "--reason", "x")
    assert (code, "name the zone" in told) == (2, True)
    code, told = await restore("--backup-time", "2026-01-01T00:00:00Z", "--reason", "disk lost")
    assert (code, "generation 1" in told) == (0, True)
    code, told = await restore()
    assert "by op (disk lost); accounts that wait: acct_main" in told
    code, told = await restore("--release", "acct_main", "--reason", "looked")
    assert (code, "sends again" in told) == (0, True)
    found = await rows(database_url, "SELECT account_id, actor, reason FROM restore_clearances")
    assert [tuple(each) for each in found] == [("acct_main", "op", "looked")]
    ((queued,),) = await rows(database_url, "SELECT count(*) FROM reconciliations WHERE state = 'QUEUED'")
    assert queued == 1


def test_a_window_is_yesterday_unless_it_is_named() -> None:
    """Dates and times, in UTC unless they name a zone; an end before the start is refused."""
    now = datetime(2026, 11, 25, 13, 30, tzinfo=UTC)
    day = datetime(2026, 11, 24, tzinfo=UTC)
    assert window("", "", now) == (day, datetime(2026, 11, 25, tzinfo=UTC))
    assert window("2026-11-24", "", now) == (day, datetime(2026, 11, 25, tzinfo=UTC))
    assert window("2026-11-24T01:00:00+01:00", "2026-11-24T02:00", now)[0] == day
    with pytest.raises(Asked, match="not after"):
        window("2026-11-24", "2026-11-23", now)
    with pytest.raises(Asked, match="neither a date nor a time"):
        window("yesterday", "", now)
