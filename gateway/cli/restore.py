"""`obol restore`: tells the database that it was restored from a backup, and what has to happen before it sends again.

Works on the database itself, not through a gateway: it is meant to run before the first gateway starts on the restored
database, and works as well while some run.
"""

import asyncio
import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.plainly import MISUSED, ConfigOption, end, plainly, settings_of

if TYPE_CHECKING:
    from gateway.domain.reconciliation import Restore

BACKUP_MARGIN_S = 900
"""How much earlier than the backup the compared window begins: the provider's clock is not ours."""


def restore_command(
    backup_time: Annotated[
        str, typer.Option("--backup-time", help="When the backup was taken, ISO 8601: later commits are lost.")
    ] = "",
    stopped_time: Annotated[
        str, typer.Option("--stopped-time", help="When the last gateway on the lost database had stopped; else now.")
    ] = "",
    release_account: Annotated[
        str, typer.Option("--release", help="Let this account send without a reconciliation, on your word.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why; kept with the restore, and with a release.")] = "",
    actor: Annotated[str, typer.Option(help="Who; else the user of this shell.")] = "",
    config: ConfigOption = None,
) -> None:
    """Say that the database was restored from a backup: nothing is sent until its accounts are reconciled.

    With neither --backup-time nor --release it only shows which accounts still wait. Run it before the first gateway
    starts on the restored database.

    Example: obol restore --backup-time 2026-11-25T03:00:00Z --reason "disk of db-1 lost"
    """
    with plainly():
        settings = settings_of(config)
        url = settings.database_url.get_secret_value()
        accounts = sorted(settings.providers)
        who = actor or getpass.getuser()
        if (backup_time or release_account) and not reason:
            end("--reason: say why, for whoever reads this later", MISUSED)
        if release_account:
            count = asyncio.run(release(url, release_account, actor=who, reason=reason))
            print(f"account {release_account} sends again; restores that it waited for: {count}")
        elif backup_time:
            declared = asyncio.run(
                declare(
                    url,
                    accounts,
                    backup_time=_time(backup_time, "--backup-time"),
                    stopped_time=_time(stopped_time, "--stopped-time") if stopped_time else None,
                    actor=who,
                    reason=reason,
                )
            )
            print(f"the database is at generation {declared.restore.generation}; nothing is sent at these accounts")
            for account_id, reconciliation_id in declared.queued.items():
                print(f"{account_id}: until reconciliation {reconciliation_id}, which a gateway carries out, is done")
        else:
            for each in asyncio.run(standing(url, accounts)):
                print(told(each))


@dataclass(frozen=True, slots=True)
class Declared:
    """A restore, and the reconciliation that was queued for each account."""

    restore: "Restore"
    queued: dict[str, str]


async def declare(
    database_url: str,
    account_ids: Sequence[str],
    *,
    backup_time: datetime,
    stopped_time: datetime | None,
    actor: str,
    reason: str,
) -> Declared:
    """Raise the generation, and queue a reconciliation of what the backup can have lost for each account."""
    from gateway.app.clock import new_id
    from gateway.app.reconciliation import want
    from store import open_store

    store = await open_store(database_url)
    try:
        backup_us = _us(backup_time)
        restore = await store.raise_generation(
            backup_time_us=backup_us,
            stopped_time_us=None if stopped_time is None else _us(stopped_time),
            actor=actor,
            reason=reason,
        )
        start_us = max(0, backup_us - BACKUP_MARGIN_S * 1_000_000)
        queued = {}
        for account_id in account_ids:
            job = await want(store, f"restore-{restore.generation}-{new_id('run')}", account_id, start_us, None)
            queued[account_id] = job.reconciliation_id
        return Declared(restore, queued)
    finally:
        await store.close()


async def release(database_url: str, account_id: str, *, actor: str, reason: str) -> int:
    """Let an account send again on a person's word; how many restores it was waiting for."""
    from store import open_store

    store = await open_store(database_url)
    try:
        return await store.release_account(account_id, actor=actor, reason=reason)
    finally:
        await store.close()


async def standing(database_url: str, account_ids: Sequence[str]) -> Sequence["Restore"]:
    """Every declared restore, and which of the accounts still wait."""
    from store import open_store

    store = await open_store(database_url)
    try:
        return await store.restores(account_ids)
    finally:
        await store.close()


def told(restore: "Restore") -> str:
    """A restore in one line."""
    pending = ", ".join(restore.pending) or "none"
    return (
        f"generation {restore.generation}: backup of {_iso(restore.backup_time_us)}, declared "
        f"{_iso(restore.raised_time_us)} by {restore.actor} ({restore.reason}); accounts that wait: {pending}"
    )


def _time(text: str, option: str) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        end(f"{option}: {text!r} is not a time such as 2026-11-25T03:00:00Z", MISUSED)
    if read.tzinfo is None:
        end(f"{option}: name the zone, such as {text}Z: an hour more or less decides what is compared", MISUSED)
    return read


def _us(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).isoformat()
