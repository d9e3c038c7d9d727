"""How operators' answers look on a screen: tables, a timeline, or plain values for JSON. Nothing is cut off."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obol.v1 import operations_pb2 as ops
from obol.v1 import payment_pb2

WIDTH_ELSEWHERE = 180
"""Characters in a line that goes to a file or a pipe."""

_KIND_STYLES = {
    "ROUTE": "blue",
    "CALL": "bold",
    "CALLBACK": "cyan",
    "EVIDENCE": "yellow",
    "OPERATOR": "bold magenta",
    "RECOVERY": "green",
    "AUDIT": "dim",
}


def plain(message: Message) -> dict[str, Any]:
    """A message as plain values by the contract's own names, fields that are empty included."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def shown(text: str, style: str = "") -> Text:
    """`text` as it may reach a terminal: a provider's words must not steer it."""
    return Text("".join(each if each.isprintable() or each == "\n" else "�" for each in text), style=style)


def print_json(document: dict[str, Any]) -> None:
    """One document."""
    print(json.dumps(document, ensure_ascii=False))


def print_rows(what: str, rows: Sequence[Message], *, more: bool) -> None:
    """A table of `what`."""
    columns, row_of = _TABLES[what]
    table = _table(*columns)
    for row in rows:
        table.add_row(*(shown(each) for each in row_of(row)))
    console = _console()
    console.print(table if rows else shown(f"no {what}"))
    if more:
        console.print(shown("more follow: ask with a larger --limit"))


def print_one(what: str, response: Any, **options: bool | str) -> None:
    """One answer in words."""
    _ANSWERS[what](_console(), response, **options)


def _item(item: ops.UnresolvedItem) -> tuple[str, ...]:
    age = _age(item.age_seconds)
    if item.HasField("payment"):
        payment = item.payment
        state = payment_pb2.PaymentState.Name(payment.state).removeprefix("PAYMENT_STATE_")
        return (
            age,
            f"payment {state}",
            item.tenant_id,
            payment.payment_id,
            _money(payment.amount),
            payment.account_id,
            "",
        )
    operation = item.operation
    state = payment_pb2.CommandState.Name(operation.state).removeprefix("COMMAND_STATE_")
    kind = payment_pb2.CommandKind.Name(operation.kind).removeprefix("COMMAND_KIND_")
    alarm = " ALARM" if operation.alarmed else ""
    told = [operation.failure] if operation.failure else []
    if operation.HasField("proposal"):
        proposal = operation.proposal
        stale = " (stale)" if proposal.stale else ""
        told.append(
            f"{proposal.actor} proposes {_resolution(proposal)}{stale}: {proposal.reason} [{proposal.proposal_id}]"
        )
    subject = f"{operation.command_id}\n{operation.payment_id}"
    return (
        age,
        f"{kind} {state}{alarm}",
        item.tenant_id,
        subject,
        _money(operation.amount),
        operation.account_id,
        "\n".join(told),
    )


def _callback(callback: ops.ReceivedCallback) -> tuple[str, ...]:
    state = ops.CallbackState.Name(callback.state).removeprefix("CALLBACK_STATE_")
    what = f"{callback.event_type}\n{callback.event_id}"
    received = callback.receive_time.ToJsonString()
    return (received, state, callback.account_id, what, callback.callback_id, callback.payment_id, callback.note)


def _record(record: ops.AuditRecord) -> tuple[str, ...]:
    told = " ".join(filter(None, (record.result, record.failure, record.detail)))
    about = "\n".join(filter(None, (record.payment_id, record.command_id)))
    return (record.record_time.ToJsonString(), record.actor, record.action, record.tenant_id, about, told)


def _account(account: ops.ProviderAccount) -> tuple[str, ...]:
    health = ops.ProviderHealth.Name(account.health).removeprefix("PROVIDER_HEALTH_")
    mode = ops.ProviderMode.Name(account.mode).removeprefix("PROVIDER_MODE_")
    able = ", ".join(account.capabilities)
    return (account.account_id, account.provider, health, mode, f"{len(account.currencies)} currencies", able)


def _lost(payment: ops.LostPayment) -> tuple[str, ...]:
    where = "\n".join(f"{each.account_id} {each.provider_payment_id}" for each in payment.objects)
    if payment.HasField("settlement"):
        said = payment.settlement
        told = f"{_outcome(said.proposal)}, by {said.proposal.actor} and {said.actor}: {said.proposal.reason}"
    elif payment.HasField("proposal"):
        proposal = payment.proposal
        told = f"{proposal.actor} proposes {_outcome(proposal)}: {proposal.reason} [{proposal.proposal_id}]"
    else:
        told = "not settled"
    found, operations = payment.found_time.ToJsonString(), "\n".join(payment.operation_ids)
    return (found, payment.tenant_id, payment.payment_id, payment.order_reference, where, operations, told)


def _reconciliation(job: ops.Reconciliation) -> tuple[str, ...]:
    state = ops.ReconciliationState.Name(job.state).removeprefix("RECONCILIATION_STATE_")
    told = f"{state} ({job.failure})" if job.failure else state
    until = job.window_end_time.ToJsonString() if job.HasField("window_end_time") else "its start"
    window = f"{job.window_start_time.ToJsonString()}\nto {until}"
    found = f"{job.break_count} found\n{job.break_count - job.mended_count} left"
    what = f"{told}, dry run" if job.dry_run else told
    asked = f"{job.create_time.ToJsonString()}\nby {job.actor}"
    return (asked, job.reconciliation_id, job.account_id, window, what, found)


_TABLES: dict[str, tuple[tuple[str, ...], Callable[[Any], tuple[str, ...]]]] = {
    "items": (("age", "what", "tenant", "command, payment", "amount", "account", "seen"), _item),
    "callbacks": (("received", "state", "account", "event", "callback", "payment", "note"), _callback),
    "records": (("time", "actor", "action", "tenant", "about", "result"), _record),
    "reconciliations": (("asked for", "reconciliation", "account", "window", "state", "breaks"), _reconciliation),
    "payments": (("found", "tenant", "payment", "order", "at the provider", "operations", "settled"), _lost),
    "accounts": (("account", "provider", "breaker", "mode", "takes", "can do"), _account),
}


def _print_resolution(console: Console, response: ops.ResolveCommandResponse, *, tenant: str) -> None:
    proposal, command = response.proposal, response.command
    state = payment_pb2.CommandState.Name(command.state).removeprefix("COMMAND_STATE_")
    payment = payment_pb2.PaymentState.Name(response.payment.state).removeprefix("PAYMENT_STATE_")
    console.print(shown(f"command {command.command_id} is {state}, payment {response.payment.payment_id} {payment}"))
    if response.resolved:
        console.print(shown(f"resolved as {_resolution(proposal)}, which {proposal.actor} proposed"))
        return
    console.print(shown(f"{proposal.actor} proposes {_resolution(proposal)}: {proposal.reason}"))
    flag = "--executed" if proposal.resolution == ops.RESOLUTION_EXECUTED else "--not-executed"
    console.print(shown("another operator approves it with"))
    approving = f"--tenant {tenant} {flag} --approve {proposal.proposal_id} --reason ..."
    console.print(shown(f"  obol resolve {command.command_id} {approving}"))


def _print_lost(console: Console, response: ops.SettleLostPaymentResponse) -> None:
    payment = response.payment
    if payment.HasField("settlement") and not payment.HasField("proposal"):
        said = payment.settlement
        text = f"lost payment {payment.payment_id} is {_outcome(said.proposal)}, as {said.proposal.actor} proposed"
        console.print(shown(f"{text} and {said.actor} approved; nothing was sent"))
        return
    proposal = payment.proposal
    console.print(shown(f"{proposal.actor} proposes {_outcome(proposal)}: {proposal.reason}"))
    console.print(shown(f"the provider shows {proposal.shown}"))
    console.print(shown("another operator approves it with"))
    approving = f"--tenant {payment.tenant_id} --{_outcome(proposal).lower()} --approve {proposal.proposal_id}"
    console.print(shown(f"  obol lost settle {payment.payment_id} {approving} --reason ..."))


def _print_replay(console: Console, response: ops.ReplayCallbackResponse, *, dry_run: bool) -> None:
    callback = response.callback
    state = ops.CallbackState.Name(callback.state).removeprefix("CALLBACK_STATE_")
    note = f": {callback.note}" if callback.note else ""
    if not response.replayed:
        console.print(shown(f"{callback.callback_id} was {state} before, and counts once: nothing is done{note}"))
        return
    console.print(shown(f"{callback.callback_id} {'would be' if dry_run else 'is'} {state}{note}"))
    for edge in response.transitions:
        console.print(shown(f"  {edge.entity} {edge.entity_id}: {edge.state_before or 'new'} -> {edge.state_after}"))
    for movement in response.movements:
        change = f"{movement.status_before or 'new'} -> {movement.status_after}"
        told = f"{movement.kind} {movement.provider_movement_id} of {_money(movement.amount)}"
        console.print(shown(f"  {told}: {change}"))
    for seen in response.observations:
        kind = plain(seen)["kind"].removeprefix("OBSERVATION_KIND_")
        console.print(shown(f"  observation {kind} {seen.observation_id}".rstrip()))


def _print_mode(console: Console, response: ops.SetProviderModeResponse) -> None:
    account = response.account
    mode = ops.ProviderMode.Name(account.mode).removeprefix("PROVIDER_MODE_")
    console.print(shown(f"{account.account_id} is {mode}: {account.mode_reason}"))


def _print_timeline(console: Console, response: ops.ExplainPaymentResponse, *, details: bool) -> None:
    payment = response.payment
    state = payment_pb2.PaymentState.Name(payment.state).removeprefix("PAYMENT_STATE_")
    where = payment.provider_reference
    console.print(
        shown(
            f"{payment.payment_id}  {state}  {_money(payment.amount)}  {where.account_id} {where.provider_payment_id}"
        )
    )
    table = _table("time", "kind", "what happened")
    for entry in response.timeline:
        told = shown(entry.summary)
        if details:
            for name, value in sorted(entry.details.items()):
                told.append_text(shown(f"\n  {name}: {value}", style="dim"))
        table.add_row(shown(entry.time.ToJsonString()), shown(entry.kind, style=_KIND_STYLES.get(entry.kind, "")), told)
    console.print(table)
    if response.truncated:
        console.print(shown("later entries were left out: `obol audit --payment` pages through the rest"))


_ANSWERS: dict[str, Callable[..., None]] = {
    "resolution": _print_resolution,
    "lost": _print_lost,
    "replay": _print_replay,
    "timeline": _print_timeline,
    "mode": _print_mode,
}


def _console() -> Console:
    # Texts come from providers and callers: none of them is markup.
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # Folded, never cut: an id that cannot be copied is of no use.
        table.add_column(column, overflow="fold")
    return table


def _money(amount: Any) -> str:
    return f"{amount.amount_minor} {amount.currency_code} (minor units)"


def _resolution(proposal: ops.Proposal) -> str:
    result = f" as {proposal.provider_result_id}" if proposal.provider_result_id else ""
    return ops.Resolution.Name(proposal.resolution).removeprefix("RESOLUTION_") + result


def _outcome(proposal: ops.LostProposal) -> str:
    return ops.LostOutcome.Name(proposal.outcome).removeprefix("LOST_OUTCOME_")


def _age(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
