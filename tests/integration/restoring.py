"""A database that is put back to an earlier state while its provider goes on."""

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from gateway.app.settings import EventSettings, ReconciliationSettings
from gateway.cli.restore import Declared, declare, standing
from obol.v1 import payment_gateway_pb2
from tests.databases import administer
from tests.integration.house import House, eventually, money, open_house

RECONCILIATION = ReconciliationSettings(poll_s=0.05, pause_s=0.0)
LONG_AGO = timedelta(seconds=300)
"""More than the longest time in flight: whatever ran on the lost database has nothing under way any more."""


@dataclass
class Place:
    """A database that can be put back to an earlier state, with the provider that goes on."""

    url: str
    folder: Path

    @asynccontextmanager
    async def house(self, **sections: Any) -> AsyncIterator[House]:
        """The gateway on it, and the provider with all its books."""
        given: dict[str, Any] = {"events": EventSettings(poll_s=0.0), "reconciliation": RECONCILIATION, **sections}
        async with open_house(self.url, self.folder, **given) as opened:
            yield opened

    def back_up(self) -> Callable[[], None]:
        """Take a backup, with no gateway running; what it gives restores it."""
        if self.url.startswith("sqlite"):
            file = Path(make_url(self.url).database or "")
            copy = file.with_suffix(".backup")
            shutil.copy(file, copy)

            def restore() -> None:
                for leftover in (file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
                    leftover.unlink(missing_ok=True)
                shutil.copy(copy, file)

            return restore
        name = make_url(self.url).database or ""
        administer(f"CREATE DATABASE {name}_backup TEMPLATE {name}")

        def restore_database() -> None:
            administer(f"DROP DATABASE {name} WITH (FORCE)")
            administer(f"CREATE DATABASE {name} TEMPLATE {name}_backup")

        return restore_database

    async def declare(
        self, backup_time: datetime, *, stopped_time: datetime | None = None, accounts: Sequence[str] = ("acct_main",)
    ) -> Declared:
        """What `obol restore` does."""
        return await declare(
            self.url,
            accounts,
            backup_time=backup_time,
            stopped_time=stopped_time,
            actor="operator",
            reason="the disk was lost",
        )


async def refund(house: House, payment_id: str, key: str, amount: int) -> Any:
    """RefundPayment; the refund."""
    request = payment_gateway_pb2.RefundPaymentRequest(idempotency_key=key, payment_id=payment_id, amount=money(amount))
    return (await house.payments.RefundPayment(request, metadata=house.metadata, timeout=60)).refund


async def pending_is_over(house: House) -> None:
    """Wait until the account may send."""
    await eventually(lambda: standing(house.database_url, ["acct_main"]), lambda found: not found[-1].pending)
