"""What operators type: look at what is unresolved, explain, replay, decide by two, read the audit.

Every command asks a running gateway over gRPC, in the operator's own name, and prints tables or one JSON document.
"""

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.plainly import FAILED, MISUSED, ConfigOption, end

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from obol.client import OperationsClient

PAGE_MAX = 200
PAGES_MAX = 1_000
"""Pages that one command reads: a list whose pages are empty ends here at the latest."""

providers_app = typer.Typer(help="Look at the provider accounts.", no_args_is_help=True, rich_markup_mode=None)

Gateway = Annotated[str, typer.Option(help="gRPC target of the gateway; else the one of the settings.")]
Actor = Annotated[str, typer.Option(help="Who you are, for the audit; else your user name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Tenant = Annotated[str, typer.Option(help="Of this tenant; all without it.")]
TheTenant = Annotated[str, typer.Option("--tenant", help="Whose it is.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]


def register(app: typer.Typer) -> None:
    """Add the operators' commands to the `obol` command."""
    for command in (unresolved, resolve, callbacks, replay, explain, audit):
        app.command()(command)
    app.add_typer(providers_app, name="providers")


def unresolved(
    state: Annotated[list[str] | None, typer.Option(help="Operations: SENDING, UNKNOWN, PENDING...")] = None,
    payment_state: Annotated[list[str] | None, typer.Option(help="Payments: REQUIRES_ACTION, PROCESSING...")] = None,
    older_than: Annotated[int, typer.Option(min=0, help="Seconds.")] = 0,
    tenant: Tenant = "",
    limit: Limit = 50,
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List what has not come to an end, oldest first: operations, and payments that stand too long.

    Example: obol unresolved --state UNKNOWN --older-than 600
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops
        from obol.v1.payment_pb2 import CommandState, PaymentState

        request = ops.ListUnresolvedRequest(
            states=[_named(CommandState, "COMMAND_STATE_", each, "--state") for each in state or ()],
            payment_states=[
                _named(PaymentState, "PAYMENT_STATE_", each, "--payment-state") for each in payment_state or ()
            ],
            age_seconds_min=older_than,
            tenant_id=tenant,
        )
        items, more = _pages(client.list_unresolved, request, "items", limit)
        _show("items", items, more, as_json=as_json)


def resolve(
    command_id: Annotated[str, typer.Argument(help="The UNKNOWN command, cmd_...")],
    tenant: TheTenant,
    reason: Annotated[str, typer.Option(help="What was seen where, in your own words.")],
    executed: Annotated[
        bool, typer.Option("--executed/--not-executed", help="Whether it took effect at the provider.")
    ],
    result_id: Annotated[str, typer.Option(help="The provider's id of what it made, for --executed.")] = "",
    movement_id: Annotated[str, typer.Option(help="Of a create: the provider's id of the capture or hold.")] = "",
    approve: Annotated[str, typer.Option(help="Another operator's proposal, prp_..., to approve.")] = "",
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Propose how an UNKNOWN command ended, or approve what another operator proposed.

    Example: obol resolve cmd_01 --tenant acme --not-executed --reason "their support has no trace of it"
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        response = client.resolve_command(
            ops.ResolveCommandRequest(
                tenant_id=tenant,
                command_id=command_id,
                resolution=ops.RESOLUTION_EXECUTED if executed else ops.RESOLUTION_NOT_EXECUTED,
                reason=reason,
                provider_result_id=result_id,
                provider_movement_id=movement_id,
                approve_proposal_id=approve,
            )
        )
        _show_one("resolution", response, as_json=as_json, tenant=tenant)


def callbacks(
    state: Annotated[str, typer.Option(help="RECEIVED, WAITING, APPLIED, IGNORED or QUARANTINED.")] = "",
    account: Annotated[str, typer.Option(help="Of this account.")] = "",
    payment: Annotated[str, typer.Option(help="Of this payment.")] = "",
    limit: Limit = 50,
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List received callbacks, newest first.

    Example: obol callbacks --state QUARANTINED
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        request = ops.ListCallbacksRequest(
            state=_named(ops.CallbackState, "CALLBACK_STATE_", state or "UNSPECIFIED", "--state"),
            account_id=account,
            payment_id=payment,
        )
        found, more = _pages(client.list_callbacks, request, "callbacks", limit)
        _show("callbacks", found, more, as_json=as_json)


def replay(
    callback_id: Annotated[str, typer.Argument(help="The callback, cbk_...")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would change.")] = False,
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Apply a kept callback once more, or see what that would do.

    Example: obol replay cbk_01 --dry-run
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        response = client.replay_callback(ops.ReplayCallbackRequest(callback_id=callback_id, dry_run=dry_run))
        _show_one("replay", response, as_json=as_json, dry_run=dry_run)


def explain(
    payment_id: Annotated[str, typer.Argument(help="The payment, pay_...")],
    tenant: TheTenant,
    details: Annotated[bool, typer.Option("--details", help="With names and values below each line.")] = False,
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Tell everything that is known of a payment in one timeline, oldest first.

    Example: obol explain pay_01 --tenant acme --details
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        response = client.explain_payment(ops.ExplainPaymentRequest(tenant_id=tenant, payment_id=payment_id))
        _show_one("timeline", response, as_json=as_json, details=details)


def audit(
    tenant: Annotated[str, typer.Option(help="Of this tenant; without it what belongs to none.")] = "",
    payment: Annotated[str, typer.Option(help="Of this payment; needs --tenant.")] = "",
    by: Annotated[str, typer.Option(help="By this actor.")] = "",
    action: Annotated[str, typer.Option(help="Of this action, such as REFUND.API_REPLY.")] = "",
    since: Annotated[datetime | None, typer.Option(help="At this time or later, in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this time, in UTC.")] = None,
    operators: Annotated[bool, typer.Option("--operators", help="Only what operators did, of all tenants.")] = False,
    limit: Limit = 50,
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List audit records, newest first.

    Example: obol audit --operators --since 2026-01-31
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        request = ops.ListAuditRecordsRequest(
            tenant_id=tenant, payment_id=payment, actor=by, action=action, operators_only=operators
        )
        # Without a zone a time is taken for UTC by FromDatetime.
        if since is not None:
            request.start_time.FromDatetime(since)
        if until is not None:
            request.end_time.FromDatetime(until)
        records, more = _pages(client.list_audit_records, request, "records", limit)
        _show("records", records, more, as_json=as_json)


@providers_app.command("list")
def list_providers(
    gateway: Gateway = "", actor: Actor = "", as_json: AsJson = False, config: ConfigOption = None
) -> None:
    """List the configured accounts with what they can do, how their breakers stand and what may be sent.

    Example: obol providers list --json
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        accounts = client.list_providers(ops.ListProvidersRequest()).accounts
        _show("accounts", list(accounts), False, as_json=as_json)


@providers_app.command("mode")
def set_provider_mode(
    account: Annotated[str, typer.Argument(help="The configured account.")],
    to: Annotated[str, typer.Argument(metavar="MODE", help="active, draining or maintenance.")],
    reason: Annotated[str, typer.Option(help="Why; the audit keeps it.")],
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Set what may be sent to an account: draining takes no new payment, maintenance sends nothing.

    Example: obol providers mode acct_main draining --reason "moving to the new contract"
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        mode = _named(ops.ProviderMode, "PROVIDER_MODE_", to, "MODE")
        response = client.set_provider_mode(ops.SetProviderModeRequest(account_id=account, mode=mode, reason=reason))
        _show_one("mode", response, as_json=as_json)


@contextmanager
def _asking(config: Path | None, gateway: str, actor: str) -> "Iterator[OperationsClient]":
    """A client in the operator's name; what a person can mend ends in one line."""
    from gateway.config import ConfigError, load_settings
    from obol.client import GatewayError, InvalidRequest, OperationsClient, Operator, channel

    try:
        target = gateway or load_settings(config).gateway_target
        operator = Operator(actor or getpass.getuser())
        with channel(target) as connected:
            yield OperationsClient(connected, operator)
    except ConfigError as error:
        end("\n".join(error.problems), MISUSED)
    except ValueError as error:
        end(str(error), MISUSED)
    except GatewayError as error:
        # What the gateway did not say itself is about the way to it.
        reason = f"{error.reason}: " if error.reason else "the gateway did not answer: "
        end(f"{reason}{error.message}", MISUSED if isinstance(error, InvalidRequest) else FAILED)


def _pages(call: Callable[..., Any], request: Any, name: str, limit: int) -> "tuple[list[Message], bool]":
    """Up to `limit` rows over as many pages as it takes, and whether more follow."""
    found: list[Message] = []
    for _ in range(PAGES_MAX):
        request.page_size = min(PAGE_MAX, limit - len(found))
        page = call(request)
        found.extend(getattr(page, name))
        request.page_token = page.next_page_token
        if len(found) >= limit or not request.page_token:
            break
    return found, bool(request.page_token)


def _show(what: str, rows: "list[Message]", more: bool, *, as_json: bool) -> None:
    from gateway.cli import tables

    if as_json:
        tables.print_json({what: [tables.plain(row) for row in rows], "more": more})
    else:
        tables.print_rows(what, rows, more=more)


def _show_one(what: str, response: "Message", *, as_json: bool, **options: bool | str) -> None:
    from gateway.cli import tables

    if as_json:
        tables.print_json(tables.plain(response))
    else:
        tables.print_one(what, response, **options)


def _named(enum: Any, prefix: str, name: str, option: str) -> Any:
    """The enum's value by its short name. Raises ValueError that names the option."""
    known = {each.removeprefix(prefix): value for each, value in enum.items()}
    if name.upper() not in known:
        raise ValueError(f"{option}: {name} is none of {', '.join(sorted(known.keys() - {'UNSPECIFIED'}))}")
    return known[name.upper()]
