"""What docs/operations.md says of a restore, with the commands as they stand there, on a database that was put back."""

import asyncio
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from gateway.cli import app
from tests.databases import sqlite_url
from tests.integration.house import State, eventually, refused
from tests.integration.restoring import LONG_AGO, Place

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
EXAMPLES = {"BACKUP": "2026-11-25T03:00:00Z", "STOPPED": "2026-11-25T09:30:00Z"}


def shown() -> Sequence[str]:
    """Every command of the chapter, in its order."""
    blocks = re.findall(r"<!-- restore -->\s*```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return [line.strip() for block in blocks for line in block.strip().splitlines()]


async def obol(folder: Path, line: str, *more: str, **words: str) -> str:
    """The command with these words put in; what it says."""
    for name, word in words.items():
        line = line.replace(EXAMPLES.get(name, name), word)
    program, *arguments = shlex.split(line)
    assert program == "obol"
    given = [*arguments, *more, "--config", str(folder / "obol.toml")]
    run = await asyncio.to_thread(CliRunner().invoke, app, given)
    assert run.exit_code == 0, f"{line}: {run.output}"
    return run.output


async def test_the_way_back_from_a_backup_is_as_it_is_written(tmp_path: Path) -> None:
    """Declared, waited for, found, proposed and approved: then the order is paid anew, and nothing was done twice."""
    place = Place(sqlite_url(tmp_path), tmp_path)
    (tmp_path / "obol.toml").write_text(f'[database]\nurl = "{place.url}"\n')
    declare, standing, listed, propose, approve = shown()
    order: dict[str, Any] = {"order_reference": "order-9", "order_reference_unique": True}
    async with place.house() as house:
        await house.create("kept")
    restore, backup_time = place.back_up(), datetime.now(UTC)
    async with place.house() as house:
        lost = await house.create("lost", 1_000, "EUR", **order)
    restore()
    stopped = datetime.now(UTC) - LONG_AGO
    told = await obol(tmp_path, declare, BACKUP=backup_time.isoformat(), STOPPED=stopped.isoformat())
    assert "generation 1" in told
    assert "accounts that wait: acct_main" in await obol(tmp_path, standing)
    async with place.house() as house:
        await eventually(lambda: obol(tmp_path, standing), lambda told: "accounts that wait: none" in told)
        at = ("--gateway", house.target)
        told = await obol(tmp_path, listed, *at)
        assert lost.payment_id in told.replace("\n", "")
        assert "not settled" in told
        reference = lost.provider_reference.provider_payment_id
        await house.control(f"/control/payments/{reference}/refund", {"amount": 1_000})
        names = {"PAYMENT": lost.payment_id, "TENANT": "t1"}
        told = await obol(tmp_path, propose, *at, **names)
        proposed = re.search(r"--approve (prp_\w+)", told)
        assert proposed is not None
        told = await obol(tmp_path, approve, *at, **names, PROPOSAL=proposed[1])
        assert "is UNDONE, as ann proposed and bob approved" in " ".join(told.split())
        assert "no payments" in await obol(tmp_path, listed, *at)
        assert (await refused(house.create("lost", 1_000, "EUR", **order))).details["settled"] == "UNDONE"
        assert (await house.create("anew", 1_000, "EUR", **order)).state == State.PAYMENT_STATE_CAPTURED
        assert len(house.effects(kind="capture")) == 3
