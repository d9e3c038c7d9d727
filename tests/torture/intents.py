"""Intents: what billing wants, each under one key, and everything that it was ever told of it."""

from collections import Counter
from dataclasses import dataclass, field

from google.protobuf.message import Message

from obol.client import GatewayError, Sent
from obol.v1.payment_pb2 import CommandState, CommandSummary
from tests.torture.defects import is_defect

FINAL = frozenset(
    {
        CommandState.COMMAND_STATE_SUCCEEDED,
        CommandState.COMMAND_STATE_FAILED,
        CommandState.COMMAND_STATE_REVERSED,
    }
)


@dataclass
class Intent:
    """One thing that billing wants once: an RPC, its request, and what came back."""

    rpc: str
    request: Message
    calls: int = 0
    sent: Sent = Sent.NO
    """The highest that any answer said."""
    refusals_only: bool = True
    """Whether every call so far ended in an error that says that nothing was sent."""
    command_id: str = ""
    final: bytes | None = None
    final_state: int = 0

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return str(getattr(self.request, "idempotency_key"))  # noqa: B009  a Message has it by its descriptor alone


@dataclass
class Journal:
    """Billing's memory: every intent by (rpc, key), and what contradicted itself."""

    intents: dict[tuple[str, str], Intent] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)

    def intend(self, rpc: str, request: Message) -> Intent:
        """A new intent."""
        intent = Intent(rpc, request)
        self.intents[rpc, intent.key] = intent
        return intent

    def replied(self, intent: Intent, reply: Message, known_before: bytes | None) -> int:
        """Keep a reply; the command's state. `known_before`: the final reply that was known when the call began."""
        command: CommandSummary = reply.payment.latest_command  # type: ignore[attr-defined]  # of every command's reply
        said = reply.SerializeToString(deterministic=True)
        intent.refusals_only = False
        self.replies[f"{intent.rpc} {CommandState.Name(command.state).removeprefix('COMMAND_STATE_')}"] += 1
        if intent.command_id not in ("", command.command_id):
            self._broken(intent, f"was command {intent.command_id} and is now {command.command_id}")
        intent.command_id = command.command_id
        if command.state in FINAL:
            if intent.final is not None and intent.final != said:
                self._broken(intent, f"has two final replies: {intent.final.hex()} and {said.hex()}")
            intent.final, intent.final_state = said, command.state
        elif known_before is not None:
            self._broken(intent, f"had its final reply and is now {CommandState.Name(command.state)}")
        return int(command.state)

    def refused(self, intent: Intent, error: GatewayError, known_before: bytes | None) -> None:
        """Keep an error."""
        self.errors[f"{type(error).__name__} {error.reason or error.code.name}"] += 1
        intent.sent = intent.sent.at_least(error.sent)
        if error.sent is not Sent.NO:
            intent.refusals_only = False
        if is_defect(error):
            self._broken(intent, f"met a defect of the gateway's: {error.message} ({error.correlation_id})")
        if known_before is not None and error.reason and not error.safe_to_retry:
            self._broken(intent, f"had its final reply and is now refused: {error}")

    def read_failed(self, rpc: str, error: GatewayError) -> None:
        """Keep the error of a call that is no command."""
        self.errors[f"{rpc} {type(error).__name__} {error.reason or error.code.name}"] += 1
        if is_defect(error):
            self.violations.append(f"{rpc} met a defect of the gateway's: {error.message} ({error.correlation_id})")

    def unanswered(self, intent: Intent) -> None:
        """The caller went away."""
        self.errors["(the caller went away)"] += 1
        intent.sent = intent.sent.at_least(Sent.MAYBE)
        intent.refusals_only = False

    def _broken(self, intent: Intent, what: str) -> None:
        self.violations.append(f"I6 {intent.rpc} {intent.key} ({intent.command_id}): {what}")
