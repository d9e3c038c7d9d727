"""`obol lost ...`: what a restore from backup lost, and what two operators say became of it.

Every command asks a running gateway, in the operator's own name, as all of `gateway.cli.operations`.
"""

from typing import Annotated

import typer

from gateway.cli.operations import (
    Actor,
    AsJson,
    Gateway,
    Limit,
    Tenant,
    TheTenant,
    _asking,
    _pages,
    _show,
    _show_one,
)
from gateway.cli.plainly import ConfigOption

lost_app = typer.Typer(
    help="Look at payments that a restore from backup lost, and settle them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@lost_app.command("list")
def list_command(
    with_settled: Annotated[bool, typer.Option("--with-settled", help="Also those that are settled.")] = False,
    tenant: Tenant = "",
    limit: Limit = 50,
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List payments that a provider carried out and a restore lost.

    Example: obol lost list --tenant acme
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        request = ops.ListLostPaymentsRequest(tenant_id=tenant, with_settled=with_settled)
        found, more = _pages(client.list_lost_payments, request, "payments", limit)
        _show("payments", found, more, as_json=as_json)


@lost_app.command("settle")
def settle_command(
    payment_id: Annotated[str, typer.Argument(help="The lost payment, pay_...")],
    tenant: TheTenant,
    reason: Annotated[str, typer.Option(help="What was done where, in your own words.")],
    stands: Annotated[
        bool,
        typer.Option("--stands/--undone", help="Its money stays taken and is booked by hand; or nothing of it stands."),
    ],
    approve: Annotated[str, typer.Option(help="Another operator's proposal, prp_..., to approve.")] = "",
    gateway: Gateway = "",
    actor: Actor = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Propose what became of a lost payment by hand, or approve what another operator proposed.

    Example: obol lost settle pay_01 --tenant acme --undone --reason "refunded in their dashboard, re_1"
    """
    with _asking(config, gateway, actor) as client:
        from obol.v1 import operations_pb2 as ops

        response = client.settle_lost_payment(
            ops.SettleLostPaymentRequest(
                tenant_id=tenant,
                payment_id=payment_id,
                outcome=ops.LOST_OUTCOME_STANDS if stands else ops.LOST_OUTCOME_UNDONE,
                reason=reason,
                approve_proposal_id=approve,
            )
        )
        _show_one("lost", response, as_json=as_json)
