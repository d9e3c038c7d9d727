"""The commands that set up or look: `migrate`, `verify`, `config check`, `providers check`, `version`."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.operations import providers_app
from gateway.cli.plainly import FAILED, MISUSED, ConfigOption, address_of, end, plainly, settings_of

config_app = typer.Typer(help="Look at the settings.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add these commands to the `obol` command."""
    app.command()(migrate)
    app.command()(verify)
    app.command()(version)
    app.add_typer(config_app, name="config")
    config_app.command("check")(check_config)
    providers_app.command("check")(check_providers)


def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to this release.

    Example: OBOL_DATABASE__URL=postgresql+asyncpg://obol@db/obol obol migrate
    """
    with plainly():
        settings = settings_of(config)
        from gateway.main import migrate as migrated

        print(f"the database is at revision {asyncio.run(migrated(settings))}")


def verify(
    config: ConfigOption = None,
    effects: Annotated[Path | None, typer.Option(help="A provider's effect log, JSON lines, to compare with.")] = None,
    healed: Annotated[
        bool, typer.Option("--healed", help="Nothing is under way: every success must have its effect.")
    ] = False,
    planted: Annotated[list[str] | None, typer.Option(help="A text that must be nowhere; may be repeated.")] = None,
    secrets: Annotated[
        bool, typer.Option(help="Look for card numbers, credentials and client secrets in every text.")
    ] = True,
    log: Annotated[list[Path] | None, typer.Option(help="A log or metrics page to look through; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check the invariants over the database, read-only, while the gateway runs or after; exit 1 where one is broken.

    Example: obol verify --effects var/sandbox/effects.jsonl --json
    """
    with plainly():
        settings = settings_of(config)
        from gateway.verification import verify as verified

        url = settings.database_url.get_secret_value()
        report = asyncio.run(
            verified(url, effect_log=effects, healed=healed, planted=planted or (), secrets=secrets, texts=log or ())
        )
        if as_json:
            print(json.dumps(report.as_json(), default=str))
        else:
            for each in report.violations:
                print(f"{each.invariant} {each.tenant_id}/{each.payment_id} {each.row}: {each.message}")
            print(
                f"verify: payments={report.payments} operations={report.operations} effects={report.effects} "
                f"unresolved={report.unresolved} violations={report.violation_count}"
            )
        raise typer.Exit(1 if report.violation_count else 0)


def check_config(config: ConfigOption = None) -> None:
    """Print the settings in effect, secrets hidden, or everything that is wrong with them.

    Example: obol config check --config obol.toml
    """
    with plainly():
        settings = settings_of(config)
        from gateway.config import effective

        for name, value in _flat(effective(settings)):
            print(f"{name} = {value}")
        address_of(settings)
        from gateway.main import accounts_settings, check_routing, sealing_of
        from providers.registry import build_accounts

        check_routing(settings, build_accounts(accounts_settings(settings)))
        sealing_of(settings)


def check_providers(
    account: Annotated[str, typer.Argument(help="An account's id; all of them without it.")] = "",
    config: ConfigOption = None,
) -> None:
    """Ask each provider whether its account is set up as obol needs it; exit 1 where something is to be mended.

    Example: obol providers check acct_main
    """
    with plainly():
        from gateway.cli.providers import check as checked

        settings = settings_of(config)
        if account and account not in settings.providers:
            end(f"there is no [providers.{account}]; known are {', '.join(settings.providers)}", MISUSED)
        raise typer.Exit(0 if checked(settings, account) else FAILED)


def version() -> None:
    """Print the version.

    Example: obol version
    """
    print(f"obol {installed_version('obol')}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
