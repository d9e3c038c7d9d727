"""`obol providers mode`: an operator's word on what may be sent to an account, said to a running gateway."""

import getpass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

CALL_TIMEOUT_S = 10.0
FAILED, MISUSED = 1, 2
MODES = ("active", "draining", "maintenance")

providers_app = typer.Typer(help="Look after provider accounts.", no_args_is_help=True, rich_markup_mode=None)


@providers_app.command()
def mode(
    account: Annotated[str, typer.Argument(help="The configured account.")],
    to: Annotated[str, typer.Argument(metavar="MODE", help="active, draining or maintenance.")],
    reason: Annotated[str, typer.Option(help="Why; the audit keeps it.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file, as for `obol serve`.")] = None,
    gateway: Annotated[str, typer.Option(help="gRPC target; else the one of the settings.")] = "",
    actor: Annotated[str, typer.Option(help="Who you are; else your login name.")] = "",
    tenant: Annotated[str, typer.Option(help="The tenant that you act for.")] = "operators",
) -> None:
    """Set what may be sent to an account: draining takes no new payment, maintenance sends nothing.

    Example: obol providers mode acct_main draining --reason "moving to the new contract"
    """
    if to.lower() not in MODES:
        _end(f"MODE: {to!r} is none; choose {', '.join(MODES)}", MISUSED)
    import grpc

    from gateway.config import ConfigError, load_settings
    from obol.v1 import operations_pb2 as pb
    from obol.v1 import operations_pb2_grpc

    try:
        target = gateway or load_settings(config).gateway_target
    except ConfigError as error:
        _end(str(error), MISUSED)
    request = pb.SetProviderModeRequest(
        account_id=account, mode=pb.ProviderMode.Value(f"PROVIDER_MODE_{to.upper()}"), reason=reason
    )
    who = (("obol-tenant", tenant), ("obol-organization", tenant), ("obol-actor", actor or getpass.getuser()))
    with grpc.insecure_channel(target) as channel:
        try:
            answer = operations_pb2_grpc.OperationsStub(channel).SetProviderMode(
                request, metadata=who, timeout=CALL_TIMEOUT_S
            )
        except grpc.RpcError as error:
            _end(f"{target}: {error.code().name}: {error.details()}", FAILED)
    print(f"{answer.account.account_id} is {to.lower()}: {answer.account.mode_reason}")


def _end(text: str, code: int) -> NoReturn:
    for line in text.splitlines():
        typer.echo(f"obol: {line}", err=True)
    raise typer.Exit(code)
