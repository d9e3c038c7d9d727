"""The commands that run until they are told to end: `serve`, `webhooks`, `sandbox`, `simulator`, `demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.plainly import MISUSED, ConfigOption, address_of, end, plainly, say, settings_of, taken

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.main import Serving
    from gateway.rpc.address import Address

SUPERVISOR_MARGIN_S = 5.0


def register(app: typer.Typer) -> None:
    """Add these commands to the `obol` command."""
    app.command()(serve)
    app.command()(webhooks)
    app.command()(sandbox)
    app.command()(simulator)
    app.command()(demo)


def serve(
    config: ConfigOption = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port; PostgreSQL only.")] = None,
) -> None:
    """Serve the gateway over gRPC until SIGTERM or Ctrl-C, then drain.

    Example: obol serve --config /etc/obol.toml --workers 2
    """
    with plainly():
        settings = settings_of(config, {"grpc": {"workers": workers}} if workers is not None else {})
        address = address_of(settings)
        if settings.grpc.workers > 1:
            raise typer.Exit(_supervise(settings, address))
        from gateway.rpc.address import check_free

        check_free(address, "grpc.port")
        _serve_here(settings, address, None)


def webhooks(config: ConfigOption = None) -> None:
    """Serve the sidecar that providers call: it verifies callbacks and hands them to the gateway.

    Example: obol webhooks --config /etc/obol.toml
    """
    with plainly():
        settings = settings_of(config)
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
        with taken("webhooks.port", settings.webhooks.port):
            run(
                SidecarSettings(
                    gateway_target=settings.gateway_target,
                    accounts=accounts,
                    listen_host=settings.webhooks.host,
                    listen_port=settings.webhooks.port,
                )
            )


def sandbox(
    config: ConfigOption = None,
    port: Annotated[int, typer.Option(help="Where it listens on 127.0.0.1; 0 takes a free one.")] = 8_080,
    seed: Annotated[int, typer.Option(help="Of its faults and delays.")] = 0,
) -> None:
    """Serve the sandbox provider: an imitation that takes no money and keeps books.

    Example: obol sandbox --port 8080
    """
    with plainly():
        settings = settings_of(config)
        from simulators.sandbox.server import serve as serve_sandbox
        from simulators.sandbox.settings import SandboxSettings

        directory = settings.data_dir / "sandbox"
        directory.mkdir(parents=True, exist_ok=True)
        hooks = settings.webhooks
        with taken("--port", port):
            serve_sandbox(
                SandboxSettings(
                    data_dir=directory,
                    port=port,
                    seed=seed,
                    webhook_url=f"http://{hooks.host}:{hooks.port}/webhooks/sandbox/{{account}}",
                )
            )


def simulator(
    name: Annotated[str, typer.Argument(help="Whose imitation, such as stripe.")],
    config: ConfigOption = None,
    port: Annotated[int, typer.Option(help="Where it listens on 127.0.0.1; 0 takes a free one.")] = 12_111,
    seed: Annotated[int, typer.Option(help="Of its faults and delays.")] = 0,
) -> None:
    """Serve a provider's imitation: it takes no money, keeps books, and can be told to fail.

    Example: obol simulator stripe --port 12111
    """
    with plainly():
        from gateway.cli.simulators import SIMULATORS

        if name not in SIMULATORS:
            end(f"there is no simulator {name!r}; known are {', '.join(SIMULATORS)}", MISUSED)
        settings = settings_of(config)
        directory, hooks = settings.data_dir / name, settings.webhooks
        directory.mkdir(parents=True, exist_ok=True)
        with taken("--port", port):
            SIMULATORS[name](directory, port, seed, f"http://{hooks.host}:{hooks.port}/webhooks/{name}/{{account}}")


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
    with plainly():
        from gateway.demo import run

        raise typer.Exit(run(keep=keep, quiet=quiet, provider=provider))


def _supervise(settings: "Settings", address: "Address") -> int:
    from gateway.rpc.address import held
    from gateway.workers import Supervisor

    def worker(number: int) -> int:
        try:
            with plainly():
                _serve_here(settings, shared, number)
        except typer.Exit as end:
            return end.exit_code
        return 0

    stop_s_max = settings.drain.announce_s + 2 * settings.drain.grace_s + SUPERVISOR_MARGIN_S
    with held(address, "grpc.port") as shared:
        return Supervisor(worker, settings.grpc.workers, stop_s_max=stop_s_max, tell=say).run()


def _serve_here(settings: "Settings", address: "Address", worker: int | None) -> None:
    from gateway import logs
    from gateway.main import run

    logs.set_up(settings.logs.level, settings.logs.format)

    def ready(where: "Serving") -> None:
        name = "" if worker is None else f" worker {worker}"
        metrics = "" if where.metrics_port is None else f", metrics at {settings.metrics.host}:{where.metrics_port}"
        print(f"obol{name} serves at {where.address}{metrics}", flush=True)

    run(settings, address, worker=worker, ready=ready)
