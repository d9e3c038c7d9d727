"""`obol reconciliations`: the reconciliations that there were, and what one of them found.

Both only look, so that the exit code says whether they could: it is `obol reconcile` that ends with 1 for what is left.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.operations import PAGE_MAX, Actor, AsJson, Gateway, Limit, _asking, _named, _pages, _show
from gateway.cli.plainly import ConfigOption
from gateway.cli.reconcile import as_csv, as_json, as_table

if TYPE_CHECKING:
    from obol.client import OperationsClient
    from obol.v1 import operations_pb2 as pb


def reconciliations_command(
    reconciliation_id: Annotated[
        str, typer.Argument(metavar="[ID]", show_default=False, help="One of them, rec_...: with its breaks.")
    ] = "",
    account: Annotated[str, typer.Option(help="Of this account.")] = "",
    state: Annotated[list[str] | None, typer.Option(help="QUEUED, RUNNING, DONE or FAILED.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Asked for at this time or later, in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Asked for before this time, in UTC.")] = None,
    breaks_left: Annotated[bool, typer.Option("--breaks-left", help="Only with a break that was not mended.")] = False,
    limit: Limit = 50,
    gateway: Gateway = "",
    actor: Actor = "",
    as_csv_text: Annotated[bool, typer.Option("--csv", help="Print the breaks of the one as CSV.")] = False,
    as_json_text: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List reconciliations, newest first; with an ID show that one and its breaks.

    Example: obol reconciliations --breaks-left --since 2026-11-24
    """
    filtered = bool(account or state or since or until or breaks_left)
    with _asking(config, gateway, actor) as client:
        if reconciliation_id and filtered:
            raise ValueError("ID: is one reconciliation; leave the filters out, or the ID")
        if reconciliation_id:
            job, breaks = _one(client, reconciliation_id)
            if as_json_text:
                print(as_json(job, breaks))
            else:
                print(as_csv(breaks) if as_csv_text else as_table(job, breaks))
            return
        if as_csv_text:
            raise ValueError("--csv: has the breaks of one reconciliation; name its ID, or take --json")
        from obol.v1 import operations_pb2 as ops

        request = ops.ListReconciliationsRequest(
            account_id=account,
            states=[_named(ops.ReconciliationState, "RECONCILIATION_STATE_", each, "--state") for each in state or ()],
            with_breaks_left=breaks_left,
        )
        # Without a zone a time is taken for UTC by FromDatetime.
        if since is not None:
            request.create_time_from.FromDatetime(since)
        if until is not None:
            request.create_time_before.FromDatetime(until)
        found, more = _pages(client.list_reconciliations, request, "reconciliations", limit)
        _show("reconciliations", found, more, as_json=as_json_text)


def _one(
    client: "OperationsClient", reconciliation_id: str
) -> "tuple[pb.Reconciliation, list[pb.ReconciliationBreak]]":
    """The reconciliation as its last page has it, and every break."""
    from obol.v1 import operations_pb2 as ops

    request = ops.GetReconciliationRequest(reconciliation_id=reconciliation_id, page_size=PAGE_MAX)
    breaks: list[pb.ReconciliationBreak] = []
    while True:
        page = client.get_reconciliation(request)
        breaks.extend(page.breaks)
        request.page_token = page.next_page_token
        if not request.page_token:
            return page.reconciliation, breaks
