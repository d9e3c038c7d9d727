"""The `obol` command. Exit codes: 0 done, 1 it failed, 2 it was asked or configured wrongly.

Every command loads its world only when it is called, so that help is quick and a supervisor can fork before gRPC is
loaded.
"""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from gateway import cli_operations
from gateway.cli_lost import lost_app
from gateway.cli_reconcile import reconcile_command
from gateway.cli_restore import restore_command

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.main import Serving
    from gateway.rpc.address import Address

FAILED = 1
MISUSED = 2
SUPERVISOR_MARGIN_S = 5.0

app = typer.Typer(
    help="Obol, a payment gateway: one contract in front of many providers, at most one effect for each command.",
    no_args_is_help=True,
    # A traceback with local variables could show a secret.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Look at the settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
cli_operations.register(app)
app.add_typer(lost_app, name="lost")
app.command("reconcile")(reconcile_command)
app.command("restore")(restore_command)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; else OBOL_CONFIG, else ./obol.toml where there is one."),
]


def main() -> None:
    """The entry point of the `obol` script."""
    app()


@app.command()
def serve(
    config: ConfigOption = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port; PostgreSQL only.")] = None,
) -> None:
    """Serve the gateway over gRPC until SIGTERM or Ctrl-C, then drain.

    Example: obol serve --config /etc/obol.toml --workers 2
    """
    with _plainly():
        settings = _settings(config, {"grpc": {"workers": workers}} if workers is not None else {})
        address = _address(settings)
        if settings.grpc.workers > 1:
            raise typer.Exit(_supervise(settings, address))
        from gateway.rpc.address import check_free

        check_free(address, "grpc.port")
        _serve_here(settings, address, None)


@app.command()
def webhooks(config: ConfigOption = None) -> None:
    """Serve the sidecar that providers call: it verifies callbacks and hands them to the gateway.

    Example: obol webhooks --config /etc/obol.toml
    """
    with _plainly():
        settings = _settings(config)
        from providers.callbacks import CallbackSettings
        from providers.secret import Secret
        from webhook_http.server import run
        from webhook_http.settings import SidecarSettings

        accounts = tuple(
            CallbackSettings(
                section.provider,
                account_id,
                tuple(Secret(secret.get_secret_value()) for secret in section.webhook_secrets),
                options=section.options,
            )
            for account_id, section in settings.providers.items()
        )
        with _taken("webhooks.port", settings.webhooks.port):
            run(
                SidecarSettings(
                    gateway_target=settings.gateway_target,
                    accounts=accounts,
                    listen_host=settings.webhooks.host,
                    listen_port=settings.webhooks.port,
                )
            )


@app.command()
def sandbox(
    config: ConfigOption = None,
    port: Annotated[int, typer.Option(help="Where it listens on 127.0.0.1; 0 takes a free one.")] = 8_080,
    seed: Annotated[int, typer.Option(help="Of its faults and delays.")] = 0,
) -> None:
    """Serve the sandbox provider: an imitation that takes no money and keeps books.

    Example: obol sandbox --port 8080
    """
    with _plainly():
        settings = _settings(config)
        from simulators.sandbox.server import serve as serve_sandbox
        from simulators.sandbox.settings import SandboxSettings

        directory = settings.data_dir / "sandbox"
        directory.mkdir(parents=True, exist_ok=True)
        hooks = settings.webhooks
        with _taken("--port", port):
            serve_sandbox(
                SandboxSettings(
                    data_dir=directory,
                    port=port,
                    seed=seed,
                    webhook_url=f"http://{hooks.host}:{hooks.port}/webhooks/sandbox/{{account}}",
                )
            )


@app.command()
def simulator(
    name: Annotated[str, typer.Argument(help="Whose imitation, such as stripe.")],
    config: ConfigOption = None,
    port: Annotated[int, typer.Option(help="Where it listens on 127.0.0.1; 0 takes a free one.")] = 12_111,
    seed: Annotated[int, typer.Option(help="Of its faults and delays.")] = 0,
) -> None:
    """Serve a provider's imitation: it takes no money, keeps books, and can be told to fail.

    Example: obol simulator stripe --port 12111
    """
    with _plainly():
        from gateway.cli_simulator import SIMULATORS

        if name not in SIMULATORS:
            _end(f"there is no simulator {name!r}; known are {', '.join(SIMULATORS)}", MISUSED)
        settings = _settings(config)
        directory, hooks = settings.data_dir / name, settings.webhooks
        directory.mkdir(parents=True, exist_ok=True)
        with _taken("--port", port):
            SIMULATORS[name](directory, port, seed, f"http://{hooks.host}:{hooks.port}/webhooks/{name}/{{account}}")


@app.command()
def demo(
    keep: Annotated[
        Path | None, typer.Option(help="A new or empty directory in which the database and the logs stay.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the last line alone.")] = False,
    provider: Annotated[str, typer.Option(help="Whom to play against.")] = "sandbox",
) -> None:
    """Take payments through a gateway of your own, on this machine.

    Example: obol demo --keep /tmp/obol
    """
    with _plainly():
        from gateway.demo import run

        raise typer.Exit(run(keep=keep, quiet=quiet, provider=provider))


@app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to this release.

    Example: OBOL_DATABASE__URL=postgresql+asyncpg://obol@db/obol obol migrate
    """
    with _plainly():
        settings = _settings(config)
        from gateway.main import migrate as migrated

        print(f"the database is at revision {asyncio.run(migrated(settings))}")


@app.command()
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
    with _plainly():
        settings = _settings(config)
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


@config_app.command()
def check(config: ConfigOption = None) -> None:
    """Print the settings in effect, secrets hidden, or everything that is wrong with them.

    Example: obol config check --config obol.toml
    """
    with _plainly():
        settings = _settings(config)
        from gateway.config import effective

        for name, value in _flat(effective(settings)):
            print(f"{name} = {value}")
        _address(settings)
        from gateway.main import accounts_settings, check_routing, sealing_of
        from providers.registry import build_accounts

        check_routing(settings, build_accounts(accounts_settings(settings)))
        sealing_of(settings)


@cli_operations.providers_app.command("check")
def check_providers(
    account: Annotated[str, typer.Argument(help="An account's id; all of them without it.")] = "",
    config: ConfigOption = None,
) -> None:
    """Ask each provider whether its account is set up as obol needs it; exit 1 where something is to be mended.

    Example: obol providers check acct_main
    """
    with _plainly():
        from gateway.cli_providers import check as checked

        settings = _settings(config)
        if account and account not in settings.providers:
            _end(f"there is no [providers.{account}]; known are {', '.join(settings.providers)}", MISUSED)
        raise typer.Exit(0 if checked(settings, account) else FAILED)


@app.command()
def version() -> None:
    """Print the version.

    Example: obol version
    """
    print(f"obol {installed_version('obol')}")


def _settings(config: Path | None, options: Mapping[str, Any] | None = None) -> "Settings":
    from gateway.config import load_settings

    return load_settings(config, options)


def _address(settings: "Settings") -> "Address":
    from gateway.rpc.address import loopback, unix

    if settings.grpc.unix_socket is not None:
        return unix(settings.grpc.unix_socket, "grpc.unix_socket")
    return loopback(settings.grpc.host, settings.grpc.port, "grpc.host")


def _supervise(settings: "Settings", address: "Address") -> int:
    from gateway.rpc.address import held
    from gateway.workers import Supervisor

    def worker(number: int) -> int:
        try:
            with _plainly():
                _serve_here(settings, shared, number)
        except typer.Exit as end:
            return end.exit_code
        return 0

    stop_s_max = settings.drain.announce_s + 2 * settings.drain.grace_s + SUPERVISOR_MARGIN_S
    with held(address, "grpc.port") as shared:
        return Supervisor(worker, settings.grpc.workers, stop_s_max=stop_s_max, tell=_say).run()


def _serve_here(settings: "Settings", address: "Address", worker: int | None) -> None:
    from gateway import logs
    from gateway.main import run

    logs.set_up(settings.logs.level, settings.logs.format)

    def ready(where: "Serving") -> None:
        name = "" if worker is None else f" worker {worker}"
        metrics = "" if where.metrics_port is None else f", metrics at {settings.metrics.host}:{where.metrics_port}"
        print(f"obol{name} serves at {where.address}{metrics}", flush=True)

    run(settings, address, worker=worker, ready=ready)


@contextmanager
def _plainly() -> Iterator[None]:
    """Let what a person can mend end in one line each, and anything else in its traceback."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:
        lines, code = _told(error)
        if not lines:
            raise
        _end("\n".join(lines), code)


def _told(error: Exception) -> tuple[list[str], int]:
    """The lines and the exit code for `error`; no lines for a defect of ours."""
    from gateway.config import ConfigError
    from gateway.domain.errors import ObolError
    from gateway.rpc.address import AddressRefused, AddressTaken

    match error:
        case ConfigError(problems=problems):
            return problems, MISUSED
        case AddressTaken():
            return [str(error)], FAILED
        case AddressRefused():
            return [str(error)], MISUSED
        case ObolError() | OSError():
            return [str(error)], FAILED
        case _:
            return _told_of_parts(error)


def _told_of_parts(error: Exception) -> tuple[list[str], int]:
    from providers.registry import RegistryError
    from store import SchemaBehind, SchemaBeyond

    match error:
        case RegistryError():
            return [f"providers: {error}"], MISUSED
        case SchemaBehind() | SchemaBeyond():
            return [str(error)], FAILED
        case _:
            return [], FAILED


@contextmanager
def _taken(setting: str, port: int) -> Iterator[None]:
    """Say which setting names the port that could not be had."""
    try:
        yield
    except OSError as error:
        _end(f"{setting}: cannot listen at port {port}: {error.strerror or error}", FAILED)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _end(text: str, code: int) -> NoReturn:
    _say(text)
    raise typer.Exit(code)


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"obol: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
