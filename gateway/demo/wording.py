"""The words and colours of the demo: one line for each thing that happens, styled for a terminal and plain without."""

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from gateway.demo.installation import Installation
from gateway.demo.reckoning import Reckoning
from gateway.domain.money import Money
from obol.v1 import money_pb2
from obol.v1.observation_pb2 import Observation, ObservationKind, ObservationSource
from obol.v1.payment_pb2 import (
    CommandKind,
    CommandState,
    DeclineReason,
    DisputeState,
    Payment,
    PaymentState,
    RetryAdvice,
)

STYLES = {
    "CREATED": "cyan",
    "REQUIRES_ACTION": "yellow",
    "PROCESSING": "yellow",
    "PENDING": "yellow",
    "SENDING": "yellow",
    "AUTHORIZED": "bright_blue",
    "PARTIALLY_CAPTURED": "green",
    "CAPTURED": "bold green",
    "SUCCEEDED": "green",
    "WON": "green",
    "PARTIALLY_REFUNDED": "magenta",
    "REFUNDED": "bold magenta",
    "CANCELLED": "bright_black",
    "EXPIRED": "bright_black",
    "FAILED": "bold red",
    "LOST": "bold red",
    "OPEN": "bold red",
    "INQUIRY": "yellow",
    "UNKNOWN": "bold black on yellow",
    "REVERSED": "bold red",
}
WHO_WIDTH = 9


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, STYLES.get(name, "bold"))


def money(amount: money_pb2.Money) -> str:
    """An amount as people write it."""
    return str(Money(amount.amount_minor, amount.currency_code))


def opening(installed: Installation, *, kept: bool) -> Text:
    """Who runs where."""
    where = (installed.provider_url, installed.target, installed.sidecar_url)
    words = Text("Three processes, nothing configured:")
    for process, address in zip((installed.provider, installed.gateways[0], installed.sidecar), where, strict=True):
        words.append(f"\n  {process.name:<8} {address:<24} process {process.pid}", "dim")
    fate = "" if kept else ", and goes with them (--keep DIR keeps it)"
    return words.append(f"\n  all they write is in {installed.directory}{fate}", "dim")


def heading(number: int, title: str) -> Text:
    """A scene's title."""
    return Text(f"{number}  {title}", "bold")


@dataclass(frozen=True, slots=True)
class Line:
    """Somebody does or says something."""

    who: str
    words: Text

    @property
    def plain(self) -> str:
        """Without colours, however long it is."""
        return f"{self.who:>{WHO_WIDTH}}  {self.words.plain}"

    def __rich__(self) -> Table:
        # A grid, so that long words go on under the words and not under the name.
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=WHO_WIDTH, justify="right", style="bold cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(self.who, self.words)
        return grid


def payment(shown: Payment, *, replayed: bool = False) -> Text:
    """How a payment stands, as a reply tells it."""
    words = Text.assemble(state(PaymentState.Name(shown.state).removeprefix("PAYMENT_STATE_")))
    sums = shown.money
    for name, amount in (("captured", sums.captured), ("refunded", sums.refunded), ("disputed", sums.disputed)):
        if amount.amount_minor:
            words.append(f"  {name} {money(amount)}")
    if sums.capturable.amount_minor:
        words.append(f"  capturable {money(sums.capturable)}")
    if shown.HasField("decline"):
        decline = shown.decline
        words.append(f"  {DeclineReason.Name(decline.reason).removeprefix('DECLINE_REASON_')}")
        words.append(f", {RetryAdvice.Name(decline.advice).removeprefix('RETRY_ADVICE_').lower().replace('_', ' ')}")
    if replayed:
        words.append("  obol-replayed: true", "dim")
    return words


def observation(number: int, seen: Observation) -> tuple[Text, Text]:
    """What was seen, and its provenance."""
    kind = ObservationKind.Name(seen.kind).removeprefix("OBSERVATION_KIND_")
    words = Text.assemble((f"#{number} ", "bold"), kind.lower().replace("_", " "))
    if seen.HasField("command"):
        command = seen.command
        words.append(f": {CommandKind.Name(command.kind).removeprefix('COMMAND_KIND_').lower()} ")
        words.append_text(state(CommandState.Name(command.state).removeprefix("COMMAND_STATE_")))
    if seen.HasField("subject_amount") and seen.subject_amount.amount_minor:
        words.append(f" {money(seen.subject_amount)}")
    words.append(" -> ")
    words.append_text(state(PaymentState.Name(seen.payment_state).removeprefix("PAYMENT_STATE_")))
    if seen.dispute_state != DisputeState.DISPUTE_STATE_NONE:
        words.append(" dispute ")
        words.append_text(state(DisputeState.Name(seen.dispute_state).removeprefix("DISPUTE_STATE_")))
    return words, _provenance(seen)


def _provenance(seen: Observation) -> Text:
    source = ObservationSource.Name(seen.source).removeprefix("OBSERVATION_SOURCE_").replace("_", " ").lower()
    where = f"{seen.provider_reference.provider}/{seen.provider_reference.account_id}"
    return Text(f"{seen.order_reference} v{seen.payment_version}, by {source} from {where}, accepted", "dim")


def closing(reckoning: Reckoning, seconds: float) -> Text:
    """How the books compare."""
    if reckoning.agrees:
        words = Text("The books agree: ", "bold green")
        words.append("the gateway's database and the provider's own effect log tell the same, one by one", "default")
    else:
        words = Text("The books do not agree.", "bold red")
    return words.append(f" ({seconds:.1f} s)", "dim")
