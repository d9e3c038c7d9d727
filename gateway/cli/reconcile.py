"""`obol reconcile`: asks a running gateway for a reconciliation, waits, and prints what it found.

Exit codes: 0 both sides agree, or what did not was mended; 1 breaks are left, or it could not be done; 2 asked wrongly.
"""

import csv
import getpass
import io
import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.plainly import FAILED, MISUSED, ConfigOption, plainly, settings_of
from gateway.cli.plainly import end as give_up

if TYPE_CHECKING:
    from obol.v1 import operations_pb2 as pb

CALL_TIMEOUT_S = 10.0
POLL_S = 0.25
POLL_S_MAX = 5.0
PAGE_SIZE = 200
COLUMNS = ("type", "mended", "tenant", "payment_id", "provider_payment_id", "order_reference", "ours", "theirs")

Metadata = tuple[tuple[str, str | bytes], ...]


def reconcile_command(
    account: Annotated[str, typer.Option(help="Which account; may be left out where one is configured.")] = "",
    start: Annotated[str, typer.Option("--from", help="Begin of the window, ISO 8601; else yesterday.")] = "",
    end: Annotated[str, typer.Option("--to", help="End of the window, exclusive; else a day after --from.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Merge nothing, only report.")] = False,
    as_csv_text: Annotated[bool, typer.Option("--csv", help="Print the breaks as CSV.")] = False,
    as_json_text: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    key: Annotated[str, typer.Option(help="Idempotency key; the same one waits for the same reconciliation.")] = "",
    wait_s: Annotated[float, typer.Option("--wait", help="How long to wait for its end, in seconds.")] = 3_600.0,
    tenant: Annotated[str, typer.Option(help="In whose name it is asked for.")] = "operations",
    actor: Annotated[str, typer.Option(help="Who asks; else the user of this shell.")] = "",
    target: Annotated[str, typer.Option(help="gRPC target; else the gateway of the settings.")] = "",
    config: ConfigOption = None,
) -> None:
    """Compare a provider's records with ours; exit 1 where a break is left for a person.

    Example: obol reconcile --account acct_main --from 2026-11-24 --csv
    """
    with plainly():
        settings = settings_of(config)
        try:
            first, last = window(start, end, datetime.now(UTC))
            wish = Wish(
                account_id=account or _only(settings.providers, settings.routed_account),
                start=first,
                end=last,
                dry_run=dry_run,
                idempotency_key=key or f"obol-reconcile-{uuid.uuid4()}",
            )
            who = actor or getpass.getuser()
            metadata: Metadata = (("obol-tenant", tenant), ("obol-organization", tenant), ("obol-actor", who))
            job, breaks = reconcile(target or settings.gateway_target, metadata, wish, wait_s=wait_s)
        except Asked as error:
            give_up(str(error), MISUSED)
        except Failed as error:
            give_up(str(error), FAILED)
        if as_json_text:
            print(as_json(job, breaks))
        else:
            print(as_csv(breaks) if as_csv_text else as_table(job, breaks))
        raise typer.Exit(1 if job.failure or left(breaks) else 0)


class Asked(ValueError):
    """What was asked for makes no sense; says why."""


class Failed(RuntimeError):
    """The gateway did not answer, or the reconciliation came to no end; says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to reconcile. Times are aware; the key makes a repeated command find the same reconciliation."""

    account_id: str
    start: datetime
    end: datetime
    dry_run: bool
    idempotency_key: str


def window(start: str, end: str, now: datetime) -> tuple[datetime, datetime]:
    """The window between two ISO 8601 times or dates, in UTC unless they name a zone; yesterday without any."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = _time(start, "--from") if start else midnight - timedelta(days=1)
    last = _time(end, "--to") if end else (first + timedelta(days=1) if start else midnight)
    if first >= last:
        raise Asked(f"--to: {last.isoformat()} is not after {first.isoformat()}")
    return first, last


def reconcile(
    target: str,
    metadata: Metadata,
    wish: Wish,
    *,
    wait_s: float,
    progress: Callable[["pb.Reconciliation"], None] = lambda _: None,
) -> tuple["pb.Reconciliation", list["pb.ReconciliationBreak"]]:
    """The reconciliation in its final state, with its breaks. Raises Failed."""
    import grpc

    from obol.client import channel
    from obol.v1.operations_pb2 import GetReconciliationRequest, RunReconciliationRequest
    from obol.v1.operations_pb2_grpc import OperationsStub

    request = RunReconciliationRequest(
        idempotency_key=wish.idempotency_key, account_id=wish.account_id, dry_run=wish.dry_run
    )
    request.window_start_time.FromDatetime(wish.start.astimezone(UTC))
    request.window_end_time.FromDatetime(wish.end.astimezone(UTC))
    try:
        with channel(target) as connection:
            stub = OperationsStub(connection)
            made = stub.RunReconciliation(request, metadata=metadata, timeout=CALL_TIMEOUT_S).reconciliation
            final = _wait(stub, made.reconciliation_id, metadata, wait_s, progress)
            breaks: list[pb.ReconciliationBreak] = []
            token = ""
            while True:
                page = stub.GetReconciliation(
                    GetReconciliationRequest(
                        reconciliation_id=final.reconciliation_id, page_size=PAGE_SIZE, page_token=token
                    ),
                    metadata=metadata,
                    timeout=CALL_TIMEOUT_S,
                )
                breaks.extend(page.breaks)
                token = page.next_page_token
                if not token:
                    return final, breaks
    except grpc.RpcError as error:
        raise Failed(f"the gateway at {target} said {error.code().name}: {error.details()}") from error


def as_table(job: "pb.Reconciliation", breaks: Sequence["pb.ReconciliationBreak"]) -> str:
    """For a person: the figures, the sums, and a line for each break."""
    lines = [
        f"reconciliation {job.reconciliation_id} of {job.account_id}, "
        f"{job.window_start_time.ToJsonString()} to {job.window_end_time.ToJsonString()}"
        f"{', dry run' if job.dry_run else ''}: {_state(job)}",
        f"provider's records {job.provider_count} (and {job.foreign_count} that are not ours), "
        f"our payments {job.payment_count}, breaks {job.break_count}, of which {job.mended_count} were mended",
    ]
    for sums in job.sums:
        lines.append(
            f"{sums.currency_code}: captured {sums.our_captured_minor} here, {sums.provider_captured_minor} there; "
            f"refunded {sums.our_refunded_minor} here, {sums.provider_refunded_minor} there"
        )
    rows = [COLUMNS, *(tuple(str(row[name]) for name in COLUMNS) for row in map(_row, breaks))]
    if breaks:
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
    return "\n".join(lines)


def as_csv(breaks: Sequence["pb.ReconciliationBreak"]) -> str:
    """A line for each break, with a heading."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, "lost_operation_ids"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(each) | {"lost_operation_ids": " ".join(each.lost_operation_ids)} for each in breaks)
    return text.getvalue().rstrip("\n")


def as_json(job: "pb.Reconciliation", breaks: Sequence["pb.ReconciliationBreak"]) -> str:
    """One document: the contract's own JSON."""
    from google.protobuf.json_format import MessageToDict

    def plain(message: Any) -> Any:
        return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)

    return json.dumps({"reconciliation": plain(job), "breaks": [plain(each) for each in breaks]})


def left(breaks: Sequence["pb.ReconciliationBreak"]) -> int:
    """How many breaks wait for a person."""
    return sum(1 for each in breaks if not each.mended)


def _wait(
    stub: Any,
    reconciliation_id: str,
    metadata: Metadata,
    wait_s: float,
    progress: Callable[["pb.Reconciliation"], None],
) -> "pb.Reconciliation":
    from obol.v1 import operations_pb2 as pb

    final = (pb.RECONCILIATION_STATE_DONE, pb.RECONCILIATION_STATE_FAILED)
    request = pb.GetReconciliationRequest(reconciliation_id=reconciliation_id, page_size=1)
    give_up = time.monotonic() + wait_s
    for pause_s in _pauses():
        job: pb.Reconciliation = stub.GetReconciliation(
            request, metadata=metadata, timeout=CALL_TIMEOUT_S
        ).reconciliation
        progress(job)
        if job.state in final:
            return job
        if time.monotonic() >= give_up:
            raise Failed(
                f"reconciliation {reconciliation_id} is still {_state(job)} after {wait_s:g} s and goes on; "
                "repeat the command with the same --key to wait for it, or look at it with "
                f"`obol reconciliations {reconciliation_id}`"
            )
        time.sleep(pause_s)
    raise AssertionError("pauses have no end")


def _pauses() -> Iterator[float]:
    pause_s = POLL_S
    while True:
        yield pause_s
        pause_s = min(POLL_S_MAX, pause_s * 1.5)


def _row(found: "pb.ReconciliationBreak") -> dict[str, Any]:
    from obol.v1.operations_pb2 import BreakType

    return {
        "type": BreakType.Name(found.type).removeprefix("BREAK_TYPE_"),
        "mended": "yes" if found.mended else "no",
        "tenant": found.tenant,
        "payment_id": found.payment_id,
        "provider_payment_id": found.provider_payment_id,
        "order_reference": found.order_reference,
        "ours": found.ours,
        "theirs": found.theirs,
    }


def _state(job: "pb.Reconciliation") -> str:
    from obol.v1.operations_pb2 import ReconciliationState

    state = ReconciliationState.Name(job.state).removeprefix("RECONCILIATION_STATE_")
    return f"{state} ({job.failure})" if job.failure else state


def _time(text: str, option: str) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise Asked(f"{option}: {text!r} is neither a date nor a time such as 2026-11-25T10:00:00Z") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _only(accounts: Collection[str], routed: str) -> str:
    if routed or len(accounts) == 1:
        return routed or next(iter(accounts))
    raise Asked(f"--account: name one of {', '.join(sorted(accounts))}")
